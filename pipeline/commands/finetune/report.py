"""The report of a training: `report.json`, and the summary that is printed."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.commands.finetune.options import FinetuneConfig
from transforms.elements import keys
from transforms.elements.one_line import name
from transforms.models.training.training_set import Labelled, Split

FILE = "report.json"

# Enough examples to find the fault by.
_MAX_BAD_KEYS = 100


@dataclasses.dataclass(frozen=True)
class FinetuneReport:
    """The report of a training. The JSON has the same names.

    Attributes:
      kind: `frozen`, `full` or `linear_probe`.
      source: the training data and the model, as the flags name them.
      settings: the flags that influence the result.
      classes: the labels, in the order of the classifier's outputs.
      images: class → the number of good images for `training` and for `validation`, and of `bad` ones.
      split: `validation_fraction`, and the number of good images on each side, `training` and `validation`.
      bad_images: reason → number of images.
      bad_image_keys: the first 100 keys of bad images, in order.
      history: `loss`, `accuracy`, `val_loss` and `val_accuracy`, each with one number per epoch.
      best_epoch: the epoch whose weights are written, counted from 1.
      validation_accuracy: the accuracy of that epoch; None without validation images.
      chance_accuracy: the accuracy of the best constant answer, the most frequent class of the validation images; None
        without validation images.
      seconds: the seconds of the `training` alone, and of `all`.
    """

    kind: str
    source: Mapping[str, Any]
    settings: Mapping[str, Any]
    classes: Sequence[str]
    images: Mapping[str, Mapping[str, int]]
    split: Mapping[str, float]
    bad_images: Mapping[str, int]
    bad_image_keys: Sequence[str]
    history: Mapping[str, Sequence[float]]
    best_epoch: int
    validation_accuracy: float | None
    chance_accuracy: float | None
    seconds: Mapping[str, float]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def compose(
    config: FinetuneConfig,
    kind: str,
    source: Mapping[str, Any],
    split: Split,
    bad: Mapping[bytes, str],
    history: Mapping[str, Sequence[float]],
    best_epoch: int,
    seconds: Mapping[str, float],
) -> FinetuneReport:
    """Composes the report of a training. `bad` is key → reason, for the bad images, which may be among the split's."""
    training, validation = (_by_class(side, bad) for side in (split.training, split.validation))
    labels = {image.key: image.label for image in (*split.training, *split.validation)}
    bad_by_class = Counter(labels[key] for key in bad if key in labels)
    names = ("epochs", "batch_size", "learning_rate", "patience", "seed")
    settings = {name: getattr(config, name) for name in names}
    if kind != "linear_probe":
        settings |= {"augment": config.augment, "batch_norm_momentum": config.batch_norm_momentum}
    accuracies = history.get("val_accuracy")
    return FinetuneReport(
        kind=kind,
        source=source,
        settings=settings,
        classes=split.classes,
        images={
            label: {"training": training[label], "validation": validation[label], "bad": bad_by_class[label]}
            for label in split.classes
        },
        split={
            "validation_fraction": config.validation_fraction,
            "training": training.total(),
            "validation": validation.total(),
        },
        bad_images=dict(Counter(bad.values()).most_common()),
        bad_image_keys=[keys.text(key) for key in sorted(bad)[:_MAX_BAD_KEYS]],
        history={name: list(values) for name, values in history.items()},
        best_epoch=best_epoch,
        validation_accuracy=accuracies[best_epoch - 1] if accuracies else None,
        chance_accuracy=max(validation.values()) / validation.total() if accuracies else None,
        seconds={name: round(value, 3) for name, value in seconds.items()},
    )


def summary(report: FinetuneReport, output: Path) -> str:
    """Returns the lines that the command prints at the end."""
    split = report.split
    bad = sum(report.bad_images.values())
    reasons = f" ({', '.join(f'{reason} {count}' for reason, count in report.bad_images.items())})" if bad else ""
    lines = [
        f"{split['training'] + split['validation'] + bad} images = {split['training']} for training + "
        f"{split['validation']} for validation + {bad} bad{reasons}",
        "",
    ]
    if report.validation_accuracy is None or report.chance_accuracy is None:
        lines.append("  accuracy    unknown: no images for validation")
    else:
        lines.append(
            f"  accuracy    {report.validation_accuracy:.3f} on the images for validation; "
            f"chance is {report.chance_accuracy:.3f}"
        )
    epochs = len(report.history["loss"])
    lines += [
        f"  training    {report.kind.replace('_', ' ')}, {epochs} epochs, the best is number {report.best_epoch}; "
        f"{report.seconds['training']:.1f} s",
        f"  classifier  {name(str(output))}/classifier: {len(report.classes)} classes, listed in its labels.txt",
    ]
    if report.kind != "linear_probe":
        lines.append(f"  module      {name(str(output))}/feature_vector: for --model of a run")
    return "\n".join([*lines, f"  report      {name(str(output))}/{FILE}"])


def _by_class(side: Sequence[Labelled], bad: Mapping[bytes, str]) -> Counter[str]:
    return Counter(image.label for image in side if image.key not in bad)
