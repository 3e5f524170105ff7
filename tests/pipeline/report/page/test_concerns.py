"""Warnings of a run."""

import dataclasses

import pytest

from pipeline.report.page.collapse import Variety
from pipeline.report.page.concerns import checked, concerns
from pipeline.report.page.drift import Drift
from tests.helpers import run_facts

USUAL = Variety(24, 0.1, 0, 32)


def _titles(facts, spread=USUAL, drift=None):
    return [concern.title for concern in concerns(facts, spread, drift)]


def test_a_usual_run_has_none():
    facts = run_facts.facts(previous=run_facts.report(), compared_run="monday")
    still = Drift(0.01, 0.0, 1.0, 24, 24, (120, 121))
    assert _titles(run_facts.facts()) == _titles(facts, drift=still) == []
    lines = checked(facts, USUAL, still)
    assert lines[0].startswith("Vectors differ: the median cosine of two of 24 images is 0.10")
    assert lines[-1] == "Since the run monday the mean vector moved by 0.01 of the spread, over the same images."
    assert "There is no earlier run in this output to compare with." in checked(run_facts.facts(), USUAL, None)


@pytest.mark.parametrize(
    ("spread", "title"),
    [(Variety(24, 0.99, 0, 32), "Collapsed vectors"), (Variety(24, 0.1, 20, 32), "Constant vectors")],
    ids=["collapsed", "constant"],
)
def test_vectors_that_say_nothing(spread, title):
    assert _titles(run_facts.facts(), spread) == [title]


def test_more_failures():
    before = run_facts.report(counts=run_facts.report()["counts"] | {"listed": 300})
    (concern,) = concerns(run_facts.facts(previous=before), USUAL, None)
    assert concern.title == "More failures than last time"
    assert "3 of 30 images failed (10.00%)" in concern.text and "3 of 300 (1.00%)" in concern.text
    fewer = dataclasses.replace(run_facts.facts(previous=run_facts.report()), report=before)
    assert _titles(fewer) == []


def test_another_model_is_named():
    model = run_facts.report()["model"] | {"digest": "d0", "image_size": [64, 64]}
    (concern,) = concerns(run_facts.facts(previous=run_facts.report(model=model)), USUAL, None)
    assert concern.title == "Another model or preprocessing than last time"
    assert "image size 64×64 → 32×32" in concern.text


def test_drift_is_called_by_name():
    moved = Drift(0.4, 0.06, 0.5, 20, 24, (120.0, 80.0))
    (concern,) = concerns(run_facts.facts(previous=run_facts.report(), compared_run="monday"), USUAL, moved)
    assert concern.title == "Drift since an earlier run"
    assert "Since the run monday the mean vector moved by 0.40 of the spread; two samples of" in concern.text
    assert "differ by about 0.06 by chance" in concern.text
    assert "The images are darker: their mean brightness is 80 of 255, and was 120." in concern.text
    assert "50% of the nearest neighbours are the same" in concern.text


def test_other_images_are_no_drift():
    moved = Drift(0.7, 0.06, 1.0, 12, 24, (120.0, 80.0))
    facts = run_facts.facts(previous=run_facts.report(), compared_run="monday")
    assert _titles(facts, drift=moved) == []
    assert checked(facts, USUAL, moved)[-1] == (
        "This run has other images than monday, so its mean differs. The 12 images in both samples have the same "
        "neighbours: this is no drift."
    )
