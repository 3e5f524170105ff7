"""The model of a report, resolved again: its digest decides, and earlier versions told less."""

import dataclasses

import pytest

from pipeline.known import recorded_model
from transforms.models.preprocessing import Preprocessing
from transforms.models.resolve import resolve


def _facts(spec):
    return {**spec.facts(), "preprocessing": dataclasses.asdict(spec.preprocessing)}


def test_the_same_model_again():
    spec = resolve("efficientnet_lite0")
    assert recorded_model.find(_facts(spec), spec.digest) == spec


def test_a_report_of_an_earlier_version_tells_the_resize_mode_by_the_digest():
    facts = _facts(resolve("efficientnet_lite0"))
    for name in ("preprocessing", "normalize", "output", "spread"):
        facts.pop(name, None)
    from transforms.models.preprocessing import Choices

    cropped = resolve("efficientnet_lite0", choices=Choices(resize_mode="crop"))
    again = recorded_model.find(facts, cropped.digest)
    assert again.digest == cropped.digest and again.preprocessing == Preprocessing(resize_mode="crop")


def test_a_model_that_has_changed_since_is_refused():
    facts = _facts(resolve("efficientnet_lite0"))
    with pytest.raises(ValueError, match="'efficientnet_lite0' is another model now"):
        recorded_model.find(facts, "0" * 64)
