"""What a person should look at: collapsed vectors, more failures, another model, drift."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipeline.model_checks.similarity import COLLAPSED_COSINE
from pipeline.report.page.collapse import Variety
from pipeline.report.page.drift import Drift
from pipeline.report.page.facts import RunFacts, value_text

# Fields of a report's model that people know, in the order of their weight.
_OF_MODEL = (
    "name",
    "image_size",
    "dimension",
    "precision",
    "preprocessing",
    "normalize",
    "signature",
    "output",
    "location",
)


@dataclasses.dataclass(frozen=True)
class Concern:
    """A warning: its subject and its text. Plain text, not yet escaped."""

    title: str
    text: str


def concerns(facts: RunFacts, variety: Variety, drift: Drift | None) -> list[Concern]:
    """Returns the warnings of a run, the worst first.

    Args:
      facts: of the run.
      variety: of its sample.
      drift: against facts.compared_run; None if the two cannot be compared.
    """
    warnings = _of_vectors(variety)
    if facts.previous:
        warnings += _of_failures(facts.report, facts.previous)
        warnings += _of_model(facts.report["model"], facts.previous["model"], facts.previous["run_id"])
    if drift and drift.is_significant:
        warnings.append(_of_drift(drift, facts.compared_run))
    return warnings


def checked(facts: RunFacts, variety: Variety, drift: Drift | None) -> list[str]:
    """Returns the checks that were possible and what they measured, one sentence each; for a run without warnings."""
    sentences = []
    if variety.images > 1:
        sentences.append(
            f"Vectors differ: the median cosine of two of {variety.images} images is {variety.median_cosine:.2f}."
        )
    if facts.previous:
        sentences.append(f"The model and its preprocessing are those of the run {facts.previous['run_id']}.")
        sentences.append(
            f"Its share of failures was {_rate(facts.previous):.2%}, and is {_rate(facts.report):.2%} now."
        )
    else:
        sentences.append("There is no earlier run in this output to compare with.")
    if drift:
        sentences.append(_movement(drift, facts.compared_run))
        if drift.is_of_other_images:
            sentences.append(
                f"This run has other images than {facts.compared_run}, so its mean differs. The {drift.shared} images "
                "in both samples have the same neighbours: this is no drift."
            )
    return sentences


def _of_vectors(variety: Variety) -> list[Concern]:
    if variety.is_collapsed:
        text = (
            f"Half of all pairs among {variety.images} images have a cosine above {variety.median_cosine:.3f} "
            f"(more than {COLLAPSED_COSINE} is a warning). Such vectors tell images hardly apart. The usual cause is "
            "wrong preprocessing, such as pixels in another range than the model expects, or a model without its "
            "weights."
        )
        return [Concern("Collapsed vectors", text)]
    if variety.is_mostly_constant:
        text = (
            f"{variety.constant:,} of {variety.dimension:,} components have the same value in all {variety.images} "
            "images of the sample. The usual causes are wrong preprocessing and a wrong output of the model."
        )
        return [Concern("Constant vectors", text)]
    return []


def _of_failures(report: Mapping[str, Any], previous: Mapping[str, Any]) -> list[Concern]:
    if _rate(report) <= _rate(previous):
        return []
    text = (
        f"{report['counts']['failed']:,} of {report['counts']['listed']:,} images failed ({_rate(report):.2%}). In the "
        f"run {previous['run_id']} it was {previous['counts']['failed']:,} of {previous['counts']['listed']:,} "
        f"({_rate(previous):.2%})."
    )
    return [Concern("More failures than last time", text)]


def _of_model(model: Mapping[str, Any], before: Mapping[str, Any], run_id: str) -> list[Concern]:
    if model["digest"] == before["digest"]:
        return []
    changes = [
        f"{name.replace('_', ' ')} {value_text(before.get(name))} → {value_text(model.get(name))}"
        for name in _OF_MODEL
        if before.get(name) != model.get(name)
    ]
    what = f" ({', '.join(changes)})" if changes else ""
    text = (
        f"The digest differs from that of the run {run_id}{what}. Vectors of the two runs cannot be compared, and a "
        "search must not mix them."
    )
    return [Concern("Another model or preprocessing than last time", text)]


def _of_drift(drift: Drift, run_id: str) -> Concern:
    light = ""
    if drift.brightness and drift.change_of_light:
        before, now = drift.brightness
        light = (
            f" The images are {drift.change_of_light}: their mean brightness is {now:.0f} of 255, and was {before:.0f}."
        )
    overlap = ""
    if drift.overlap is not None:
        overlap = (
            f" On {drift.shared} images that both samples hold, {drift.overlap:.0%} of the nearest neighbours are the "
            "same."
        )
    text = f"{_movement(drift, run_id)}{light}{overlap} The images, or what reads them, have changed."
    return Concern("Drift since an earlier run", text)


def _movement(drift: Drift, run_id: str) -> str:
    return f"Since the run {run_id} the mean vector moved by {drift.shift:.2f} of the spread{_chance(drift)}."


def _chance(drift: Drift) -> str:
    if drift.by_chance == 0:
        return ", over the same images"
    return f"; two samples of this size differ by about {drift.by_chance:.2f} by chance"


def _rate(report: Mapping[str, Any]) -> float:
    counts = report["counts"]
    return counts["failed"] / counts["listed"] if counts["listed"] else 0.0
