"""What a page is made from."""

import dataclasses

import pytest

from pipeline.report.page.facts import value_text
from tests.helpers import run_facts
from transforms.models.preprocessing import TF_HUB


def test_the_statistics_are_those_of_the_sample():
    statistics = run_facts.facts().statistics
    assert statistics.images == 24 and statistics.digest == "d1"
    assert run_facts.facts(sample=run_facts.sample(0)).statistics is None


def test_drift_is_that_since_the_compared_run():
    before = run_facts.facts()
    assert before.drift is None
    now = dataclasses.replace(before, compared_run="a", compared_statistics=before.statistics)
    assert now.drift.shift == 0 and dataclasses.replace(now, sample=run_facts.sample(0)).drift is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([224, 224], "224×224"),
        ([], "none"),
        ("", "none"),
        (False, "False"),
        (1280, "1280"),
        (dataclasses.asdict(TF_HUB), "pixels in 0..1, RGB, stretch, bilinear"),
        ({"mean": "of another version"}, "{'mean': 'of another version'}"),
    ],
    ids=str,
)
def test_values_for_people(value, text):
    assert value_text(value) == text
