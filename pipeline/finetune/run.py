"""The command that fine-tunes a model on labelled images, or trains a linear probe on their embeddings.

    python -m pipeline.finetune --train 'photos/*/*.jpg' --model models/module --output pets

Flags → what to train on → a model → training → a directory that appears when all of it is written.
"""

import contextlib
import dataclasses
import math
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import directories
from pipeline.command import DONE, FAILED, INTERRUPTED, WRONG, one_line
from pipeline.console import Console, console, discard
from pipeline.finetune import options
from pipeline.finetune import report as reports
from pipeline.finetune.options import FinetuneConfig
from pipeline.finetune.progress import TrainingProgress
from pipeline.finetune.report import FinetuneReport
from transforms.models import catalog
from transforms.models.training import training_set
from transforms.models.training.training_set import Split

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras

CLASSIFIER, MODULE = "classifier", "feature_vector"


class WrongInputError(ValueError):
    """Wrong flags or inputs, in one line: what whoever gave them can mend."""


@dataclasses.dataclass(frozen=True)
class _Task:
    """A training that can begin: what can be known to be wrong beforehand has been looked at.

    Attributes:
      kind, source: as the report has them.
      split: what there is to train on and to validate with.
      bad: key → why an image is left out; images come to it while they are read.
      model: the classifier.
      training, validation: its data.
      module, image_size: what is trained with it, and the (height, width) of its images; None for a linear probe.
    """

    kind: str
    source: Mapping[str, Any]
    split: Split
    bad: Mapping[bytes, str]
    model: "tf_keras.Sequential"
    training: "tf.data.Dataset"
    validation: "tf.data.Dataset | None"
    module: Any = None
    image_size: tuple[int, int] | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; the outcome goes to stdout, all else to stderr."""
    try:
        config = options.parse(sys.argv[1:] if argv is None else argv)
    except ValueError as error:
        sys.stderr.write(f"finetune: {one_line(error)}\n")
        return WRONG
    with console(config.verbose) as shown:
        try:
            report = train(config, shown)
        except WrongInputError as error:
            said, code = str(error), WRONG
        except KeyboardInterrupt:
            said, code = "interrupted: nothing was written", INTERRUPTED
        except Exception as error:  # noqa: BLE001 - whatever TensorFlow raises, the training has failed
            traceback.print_exc()
            log = f"; all that was logged: {shown.log}" if shown.log else ""
            said, code = f"the training failed: {one_line(error)}{log}", FAILED
        else:
            print(reports.summary(report, config.output))
            said, code = "", DONE
        if code != FAILED:
            discard(shown)
        if said:
            shown.screen.write(f"finetune: {said}\n")
            shown.screen.flush()
    return code


def train(config: FinetuneConfig, shown: Console) -> FinetuneReport:
    """Trains what was asked for, and writes it to `config.output`.

    Raises:
      WrongInputError: before the training, if the flags or inputs are wrong.
    """
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        with _wrong_input():
            entries = (CLASSIFIER, MODULE, reports.FILE)
            output = stack.enter_context(
                directories.complete(config.output, overwrite=config.overwrite, entries=entries)
            )
            task = _vectors_task(config) if config.embeddings else _images_task(config)

        from transforms.models.training import classifier, export

        shown.screen.write(
            f"{len(task.split.training)} images of {len(task.split.classes)} classes to train on, "
            f"{len(task.split.validation)} to validate with\n"
        )
        batches = math.ceil(len(task.split.training) / config.batch_size)
        trained_from = time.monotonic()
        fitted = classifier.fit(
            task.model,
            task.training,
            task.validation,
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            patience=config.patience,
            watch=TrainingProgress(shown.screen, epochs=config.epochs, batches=batches),
        )
        trained_to = time.monotonic()
        export.write_classifier(task.model, task.split.classes, output / CLASSIFIER)
        if task.module is not None and task.image_size is not None:
            export.write_module(task.module, task.image_size, output / MODULE)
        seconds = {"training": trained_to - trained_from, "all": time.monotonic() - start}
        report = reports.compose(
            config, task.kind, task.source, task.split, task.bad, fitted.history, fitted.best_epoch, seconds
        )
        (output / reports.FILE).write_text(report.to_json(), encoding="utf-8")
    return report


def _images_task(config: FinetuneConfig) -> _Task:
    directory, noted_size = _resolve(config.model)
    from pipeline.finetune import inputs  # brings Beam along, for its filesystems

    split = training_set.split(inputs.image_labels(config.train), config.validation_fraction)
    from transforms.models.training import classifier, image_batches

    module = classifier.load_module(directory)
    size = config.image_size or classifier.fixed_image_size(module) or noted_size
    if size is None:
        raise ValueError(f"model={config.model!r} does not tell which size its images have: give --image_size HxW")
    model = classifier.image_classifier(
        module,
        size,
        len(split.classes),
        trainable=config.trainable,
        batch_norm_momentum=config.batch_norm_momentum,
        seed=config.seed,
    )
    batches = image_batches.ImageBatches(inputs.read_image, split.classes, size, config.batch_size)
    batches.check(split)
    return _Task(
        kind="full" if config.trainable else "frozen",
        source={"train": config.train, "model": config.model, "image_size": size},
        split=split,
        bad=batches.bad,
        model=model,
        training=batches.training(split.training, seed=config.seed, augment=config.augment),
        validation=batches.validation(split.validation) if split.validation else None,
        module=module,
        image_size=size,
    )


def _vectors_task(config: FinetuneConfig) -> _Task:
    import numpy as np

    from pipeline.finetune import inputs

    found = inputs.labelled_vectors(config.embeddings, config.labels)
    split = training_set.split(found.labels, config.validation_fraction)
    from transforms.models.training import classifier

    rows = {key: row for row, key in enumerate(found.vectors.keys)}
    numbers = {label: number for number, label in enumerate(split.classes)}

    def batches(side: Sequence[training_set.Labelled], seed: int | None) -> "tf.data.Dataset":
        chosen = np.array([rows[image.key] for image in side], np.int64)
        classes = np.array([numbers[image.label] for image in side], np.int32)
        return classifier.vector_batches(found.vectors.matrix, chosen, classes, config.batch_size, seed)

    trained = np.array([rows[image.key] for image in split.training], np.int64)
    return _Task(
        kind="linear_probe",
        source={
            "embeddings": config.embeddings,
            "labels": config.labels,
            "model": {"name": found.vectors.model_name, "digest": found.vectors.model_digest},
            "unlabelled": found.unlabelled,
            "without_vector": found.without_vector,
        },
        split=split,
        bad=found.bad,
        model=classifier.vector_classifier(found.vectors.matrix, trained, len(split.classes), seed=config.seed),
        training=batches(split.training, config.seed),
        validation=batches(split.validation, None) if split.validation else None,
    )


def _resolve(handle: str) -> tuple[Path, tuple[int, int] | None]:
    """Returns the SavedModel that a handle means, and its image size (height, width) where one is told beside it.

    Raises:
      ValueError: if there is no such model, or it is of a format that cannot be trained here.
    """
    from transforms.models import handles, hub, notes

    known = catalog.HUB.get(handle)
    path = None if handle in catalog.BUNDLED else handles.local_path(known.handle if known else handle)
    if path is None or path.is_file() or hub.read(path).format == "tf1_hub":
        raise ValueError(
            f"model={handle!r} cannot be trained: expected a SavedModel in TF2 format; embed the images with it, and "
            "train on its vectors by --embeddings"
        )
    return path, notes.image_size(path) or (known.image_size if known else None)


@contextlib.contextmanager
def _wrong_input() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        raise WrongInputError(one_line(error)) from error
