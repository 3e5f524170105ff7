"""What a training was and how well it went → `report.json`, and the lines that a person reads."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.finetune.options import FinetuneConfig
from transforms.models.training.training_set import Labelled, Split

FILE = "report.json"

# Enough to see what is wrong with them.
_KEYS_SHOWN = 100


@dataclasses.dataclass(frozen=True)
class FinetuneReport:
    """All that is reported; the JSON has the same names.

    Attributes:
      kind: `frozen`, `full` or `linear_probe`.
      source: what was trained on, and what with.
      settings: the flags that decide on the outcome.
      classes: in the order of the classifier's outputs.
      images: class → how many were for `training` and `validation`, and how many more were `bad`.
      split: `validation_fraction`, and how many images that came to.
      bad_images: why → how many.
      bad_image_keys: of the first of them.
      history: `loss`, `accuracy`, `val_loss`, `val_accuracy`, a number an epoch.
      best_epoch: whose weights were kept, counted from 1.
      validation_accuracy: of that epoch; None without validation.
      chance_accuracy: of the best that can be done without looking, which is to answer with the class that most of the
        validation images have.
      seconds: `training` alone, and `all`.
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
    """Puts a report together.

    Args:
      config: what was asked.
      kind, source, history, best_epoch, seconds: as FinetuneReport has them.
      split: what was to be trained on and validated with, bad images included or not.
      bad: key → why, for those.
    """
    training, validation = (_by_class(side, bad) for side in (split.training, split.validation))
    labels = {image.key: image.label for image in (*split.training, *split.validation)}
    spoilt = Counter(labels[key] for key in bad if key in labels)
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
            label: {"training": training[label], "validation": validation[label], "bad": spoilt[label]}
            for label in split.classes
        },
        split={
            "validation_fraction": config.validation_fraction,
            "training": training.total(),
            "validation": validation.total(),
        },
        bad_images=dict(Counter(bad.values()).most_common()),
        bad_image_keys=[key.decode("utf-8", "backslashreplace") for key in sorted(bad)[:_KEYS_SHOWN]],
        history={name: list(values) for name, values in history.items()},
        best_epoch=best_epoch,
        validation_accuracy=accuracies[best_epoch - 1] if accuracies else None,
        chance_accuracy=max(validation.values()) / validation.total() if accuracies else None,
        seconds={name: round(value, 3) for name, value in seconds.items()},
    )


def summary(report: FinetuneReport, output: Path) -> str:
    """Returns what a person reads at the end."""
    split = report.split
    bad = sum(report.bad_images.values())
    why = f" ({', '.join(f'{error} {count}' for error, count in report.bad_images.items())})" if bad else ""
    lines = [
        f"{split['training'] + split['validation'] + bad} images = {split['training']} for training + "
        f"{split['validation']} for validation + {bad} bad{why}",
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
        f"  training    {report.kind.replace('_', ' ')}, {epochs} epochs, kept is number {report.best_epoch}; "
        f"{report.seconds['training']:.1f} s",
        f"  classifier  {output}/classifier: {len(report.classes)} classes, named in its labels.txt",
    ]
    if report.kind != "linear_probe":
        lines.append(f"  module      {output}/feature_vector: for run_pipeline.py --model")
    return "\n".join([*lines, f"  report      {output}/{FILE}"])


def _by_class(side: Sequence[Labelled], bad: Mapping[bytes, str]) -> Counter[str]:
    return Counter(image.label for image in side if image.key not in bad)
