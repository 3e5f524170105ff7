"""Drift between the samples of two runs."""

import dataclasses
import json

import numpy as np
import pytest

from pipeline.report.page import drift
from pipeline.report.page.neighbours import cosines, nearest
from tests import run_facts


def _statistics(sample, digest="d"):
    return drift.statistics(sample, digest, nearest(cosines(sample.vectors)))


def _moved(sample, by, brightness=None):
    spread = _statistics(sample).spread
    vectors = sample.vectors + np.float32(by * spread / sample.vectors.shape[1] ** 0.5)
    return dataclasses.replace(sample, vectors=vectors, brightness=brightness or sample.brightness)


def test_the_same_images_have_not_moved():
    sample = run_facts.sample(100)
    between = drift.between(_statistics(sample), _statistics(sample))
    assert (between.shift, between.by_chance, between.overlap, between.shared) == (0, 0, 1, 100)
    assert not between.is_significant


def test_the_shift_is_in_units_of_the_spread():
    sample = run_facts.sample(100)
    between = drift.between(_statistics(sample), _statistics(_moved(sample, 0.3)))
    assert between.shift == pytest.approx(0.3, abs=1e-4) and between.is_significant  # float32 vectors


def test_other_images_of_the_same_kind_differ_by_chance_alone():
    """The distance of the means is near what chance makes: its relative deviation is about 1 / sqrt(2 * dimension)."""
    one, other = run_facts.sample(100, 256, seed=1), run_facts.sample(100, 256, seed=2, prefix="/other/")
    between = drift.between(_statistics(one), _statistics(other))
    assert between.shift == pytest.approx(between.by_chance, rel=0.2) and between.shared == 0
    assert between.overlap is None and not between.is_significant


def test_darker_images_are_called_darker():
    sample = run_facts.sample(100)
    darker = drift.between(_statistics(sample), _statistics(_moved(sample, 0, brightness=90.0)))
    assert darker.change_of_light == "darker" and darker.is_significant and darker.brightness == (120, 90)
    assert drift.between(_statistics(_moved(sample, 0, 90.0)), _statistics(sample)).change_of_light == "brighter"
    few = run_facts.sample(10), run_facts.sample(10, prefix="/other/")
    assert drift.between(*map(_statistics, (few[0], _moved(few[1], 0, 90.0)))).change_of_light == ""


def test_what_cannot_be_compared():
    sample, few = run_facts.sample(100), run_facts.sample(7)
    assert drift.between(_statistics(sample), _statistics(sample, "another")) is None
    assert drift.between(_statistics(few), _statistics(sample)) is None
    assert drift.statistics(run_facts.sample(0), "d", np.zeros((0, 0), np.intp)) is None


def test_statistics_are_read_as_they_were_written():
    statistics = _statistics(run_facts.sample(20))
    read = drift.Statistics.from_json(statistics.to_json())
    assert read.to_json() == statistics.to_json() and "<" not in statistics.to_json()
    assert drift.between(statistics, read).shift == 0


@pytest.mark.parametrize(
    "change",
    [
        {"mean": "?"},
        {"mean": ""},
        {"mean": "AAA="},
        {"mean": "AADAfw=="},
        {"nearest": [[99]] * 20},
        {"nearest": [[0], [0, 1]]},
        {"nearest": "x"},
        {"keys": None},
        {"keys": ["k"] * 501},
        {"spread": "wide"},
        {"spread": 1e999},
        {"brightness": []},
    ],
    ids=str,
)
def test_other_texts_are_no_statistics(change):
    facts = json.loads(_statistics(run_facts.sample(20)).to_json()) | change
    with pytest.raises(ValueError, match="expected the statistics of a sample"):
        drift.Statistics.from_json(json.dumps(facts))


@pytest.mark.parametrize("text", ["", "[]", "{}", "1", "[" * 100_000], ids=["nothing", "list", "empty", "one", "deep"])
def test_other_json_is_no_statistics(text):
    with pytest.raises(ValueError, match="expected the statistics of a sample"):
        drift.Statistics.from_json(text)
