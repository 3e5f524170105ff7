"""The command that fine-tunes a model on labelled images, or trains a linear probe on their embeddings.

    python -m pipeline finetune --train 'photos/*/*.jpg' --model models/module --output pets

Flags → training data → model → training → a directory that appears when all of it is written.
"""

import contextlib
import dataclasses
import math
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.attempts import interruption
from pipeline.commands.finetune import options
from pipeline.commands.finetune import report as reports
from pipeline.commands.finetune.options import FinetuneConfig
from pipeline.commands.finetune.progress import TrainingProgress
from pipeline.commands.finetune.report import FinetuneReport
from pipeline.commands.frame import DONE, FAILED, WRONG
from pipeline.runners.console import Console, console, discard, open_streams, say, unwritable, write_line
from transforms.elements.one_line import one_line
from transforms.models import catalog
from transforms.models.engines import interruptible
from transforms.models.training import training_set
from transforms.models.training.training_set import Split
from transforms.storage import complete

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras

CLASSIFIER, MODULE = "classifier", "feature_vector"


class WrongInputError(ValueError):
    """Wrong flags or inputs, which the user can correct. The message is one line."""


@dataclasses.dataclass(frozen=True)
class _Task:
    """A training whose inputs are checked, ready to begin.

    Attributes:
      kind, source: see FinetuneReport.
      split: the images for training and those for validation.
      bad: key → the reason why an image is left out; reading the images adds to it.
      model: the classifier.
      training, validation: batches of both sides; validation is None where its side is empty.
      module, image_size: the module below the classifier, and the (height, width) of its images in pixels; None for a
        linear probe.
      beside: name → file with the preprocessing of the module.
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
    beside: Mapping[str, Path] = dataclasses.field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code. The summary goes to stdout, everything else to stderr."""
    open_streams()
    try:
        config = options.parse(sys.argv[1:] if argv is None else argv)
    except ValueError as error:
        say(f"finetune: {one_line(error)}")
        return WRONG
    with console(config.verbose) as streams, interruption.by_signals():
        try:
            report = train(config, streams)
        except WrongInputError as error:
            message, code = str(error), WRONG
        except KeyboardInterrupt as error:
            message, code = "interrupted: nothing was written", interruption.exit_code(error)
            interruption.ignore_further()
        except Exception as error:  # noqa: BLE001 - TensorFlow's, of any class; the log has the traceback
            traceback.print_exc()
            log = f"; all that was logged: {streams.log}" if streams.log else ""
            message, code = f"the training failed: {one_line(error)}{log}", FAILED
        else:
            message, code = "", DONE
            try:
                write_line(sys.stdout, reports.summary(report, config.output))
            except OSError as error:
                message = unwritable(error)
        if code != FAILED:
            discard(streams)
        if message:
            streams.screen.write(f"finetune: {message}\n")
            streams.screen.flush()
        interruption.leave_what_runs(code)
    return code


def train(config: FinetuneConfig, streams: Console) -> FinetuneReport:
    """Trains a classifier, writes it to `config.output`, and returns the report.

    Raises:
      WrongInputError: before the training, if the flags or inputs are wrong.
    """
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        with _wrong_input():
            entries = (CLASSIFIER, MODULE, reports.FILE)
            output = stack.enter_context(
                complete.directory(
                    config.output,
                    named=f"--output {str(config.output)!r}",
                    overwrite=config.overwrite,
                    entries=entries,
                )
            )
            task = _vectors_task(config) if config.embeddings else _images_task(config)

        from transforms.models.training import classifier, export

        streams.screen.write(
            f"{len(task.split.training)} images of {len(task.split.classes)} classes to train on, "
            f"{len(task.split.validation)} to validate with\n"
        )
        batches = math.ceil(len(task.split.training) / config.batch_size)
        training_start = time.monotonic()
        fitted = interruptible.call(
            lambda: classifier.fit(
                task.model,
                task.training,
                task.validation,
                epochs=config.epochs,
                learning_rate=config.learning_rate,
                patience=config.patience,
                watch=TrainingProgress(streams.screen, epochs=config.epochs, batches=batches),
            )
        )
        training_end = time.monotonic()
        export.write_classifier(task.model, task.split.classes, output / CLASSIFIER)
        if task.module is not None and task.image_size is not None:
            export.write_module(task.module, task.image_size, output / MODULE)
            for name, file in task.beside.items():
                for written in (CLASSIFIER, MODULE):
                    shutil.copyfile(file, output / written / name)
        seconds = {"training": training_end - training_start, "all": time.monotonic() - start}
        report = reports.compose(
            config, task.kind, task.source, task.split, task.bad, fitted.history, fitted.best_epoch, seconds
        )
        (output / reports.FILE).write_text(report.to_json(), encoding="utf-8")
    return report


def _images_task(config: FinetuneConfig) -> _Task:
    directory, recorded_size = _trainable(config.model)
    from pipeline.commands.finetune import inputs  # imports Beam, for its filesystems
    from transforms.models import preprocessing_files

    beside = preprocessing_files.choices(directory)
    split = training_set.split(inputs.image_labels(config.train), config.validation_fraction)
    from transforms.models.training import classifier, image_batches

    module = classifier.load_module(directory)
    size = config.image_size or classifier.fixed_image_size(module) or recorded_size or beside.image_size
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
    batches = image_batches.ImageBatches(
        inputs.read_image, split.classes, size, config.batch_size, beside.preprocessing()
    )
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
        beside=preprocessing_files.find(directory),
    )


def _vectors_task(config: FinetuneConfig) -> _Task:
    import numpy as np

    from pipeline.commands.finetune import inputs

    labelled = inputs.labelled_vectors(config.embeddings, config.labels)
    split = training_set.split(labelled.labels, config.validation_fraction)
    from transforms.models.training import classifier

    rows = {key: row for row, key in enumerate(labelled.vectors.keys)}
    numbers = {label: number for number, label in enumerate(split.classes)}

    def batches(side: Sequence[training_set.Labelled], seed: int | None) -> "tf.data.Dataset":
        indices = np.array([rows[image.key] for image in side], np.int64)
        classes = np.array([numbers[image.label] for image in side], np.int32)
        return classifier.vector_batches(labelled.vectors.matrix, indices, classes, config.batch_size, seed)

    training_rows = np.array([rows[image.key] for image in split.training], np.int64)
    return _Task(
        kind="linear_probe",
        source={
            "embeddings": config.embeddings,
            "labels": config.labels,
            "model": {"name": labelled.vectors.model_name, "digest": labelled.vectors.model_digest},
            "unlabelled": labelled.unlabelled,
            "without_vector": labelled.without_vector,
        },
        split=split,
        bad=labelled.bad,
        model=classifier.vector_classifier(
            labelled.vectors.matrix, training_rows, len(split.classes), seed=config.seed
        ),
        training=batches(split.training, config.seed),
        validation=batches(split.validation, None) if split.validation else None,
    )


def _trainable(handle: str) -> tuple[Path, tuple[int, int] | None]:
    """Returns the directory of a handle's SavedModel, and its image size (height, width) where that is recorded.

    Raises:
      ValueError: if there is no such model, or if its format cannot be trained.
    """
    from transforms.models import handles, hub, notes, portable

    entry = catalog.HUB.get(handle)
    path = None if handle in catalog.BUNDLED else handles.local_path(entry.handle if entry else handle)
    if path is None or path.is_file() or portable.find(path) or hub.read(path).format == "tf1_hub":
        raise ValueError(
            f"model={handle!r} cannot be trained: expected a SavedModel in TF2 format; or embed the images with it, "
            "and train on its vectors by --embeddings"
        )
    return path, notes.image_size(path) or (entry.image_size if entry else None)


@contextlib.contextmanager
def _wrong_input() -> Iterator[None]:
    """Turns the errors of checks into WrongInputError, in one line."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise WrongInputError(one_line(error)) from error
