"""Drift between the samples of two runs."""

import dataclasses
import json

import numpy as np
import pytest

from pipeline.report.page import drift
from tests.helpers import run_facts


def _statistics(sample, digest="d"):
    return drift.statistics(sample, digest)


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


def test_the_shift_is_in_units_of_the_earlier_spread():
    before = _statistics(run_facts.sample(100))
    now = dataclasses.replace(_statistics(_moved(run_facts.sample(100), 0.3)), spread=10 * before.spread)
    assert drift.between(before, now).shift == pytest.approx(0.3, abs=1e-4)  # float32 vectors


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


def _part(sample, rows):
    rows = list(rows)
    pictures = tuple(sample.thumbnails[row] for row in rows)
    return dataclasses.replace(
        sample, keys=tuple(sample.keys[row] for row in rows), vectors=sample.vectors[rows], thumbnails=pictures
    )


def _clusters(count=200):
    """Images of two kinds, far from each other, the first half of one kind: a half has another mean than the whole."""
    sample = run_facts.sample(count, 64)
    sample.vectors[: count // 2, 0] += 20
    return sample


def test_other_images_beside_the_same_are_no_drift():
    whole = _clusters()
    half = dataclasses.replace(_part(whole, range(100)), brightness=40.0)
    for before, now in ((half, whole), (whole, half)):
        between = drift.between(_statistics(before), _statistics(now))
        assert between.shift > 0.2 and between.brightness and (between.shared, between.images) == (100, 200)
        assert between.overlap == 1 and between.is_of_other_images and not between.is_significant


def test_images_that_changed_are_drift_though_others_are_new():
    """The images that both samples hold have other neighbours now."""
    whole = _clusters()
    changed = _part(whole, range(100))
    changed.vectors[::5] = run_facts.sample(20, 64, seed=7).vectors
    between = drift.between(_statistics(changed), _statistics(whole))
    assert between.overlap < 0.95 and not between.is_of_other_images and between.is_significant


def test_the_same_change_of_nearly_the_same_images_is_drift():
    """Their neighbours are the same, as all vectors have become longer."""
    sample = _clusters()
    longer = dataclasses.replace(sample, vectors=sample.vectors * 1.5)
    between = drift.between(_statistics(_part(sample, range(5, 195))), _statistics(longer))
    assert between.overlap == 1 and not between.is_of_other_images and between.is_significant


def test_half_of_the_images_changed_is_drift():
    sample = _clusters()
    darkened = dataclasses.replace(sample, vectors=sample.vectors.copy(), brightness=80.0)
    darkened.vectors[::2] *= np.linspace(0.2, 0.9, 64, dtype=np.float32)
    between = drift.between(_statistics(sample), _statistics(darkened))
    assert between.shared == between.images == 200 and between.is_significant


def test_vectors_that_are_too_long_for_a_page_are_not_stored():
    sample = dataclasses.replace(run_facts.sample(8), vectors=np.ones((8, (1 << 16) + 1), np.float32))
    assert _statistics(sample) is None


def test_what_cannot_be_compared():
    sample, few = run_facts.sample(100), run_facts.sample(7)
    assert drift.between(_statistics(sample), _statistics(sample, "another")) is None
    assert drift.between(_statistics(few), _statistics(sample)) is None
    assert drift.between(_statistics(sample), _statistics(few)) is None
    assert _statistics(sample).can_be_compared and not _statistics(few).can_be_compared
    assert drift.statistics(run_facts.sample(0), "d") is None


def test_statistics_are_read_as_they_were_written():
    statistics = _statistics(run_facts.sample(20))
    read = drift.Statistics.from_json(statistics.to_json())
    assert read.to_json() == statistics.to_json()
    assert drift.between(statistics, read).shift == 0


def test_statistics_of_any_digest_are_one_line():
    statistics = _statistics(run_facts.sample(20), digest="</script><script>alert(1)</script>")
    text = statistics.to_json()
    assert text.endswith("}\n") and text.count("\n") == 1 and text.isascii()
    assert drift.Statistics.from_json(text).digest == statistics.digest


@pytest.mark.parametrize(
    "change",
    [
        {"mean": "?"},
        {"mean": ""},
        {"mean": "AAA="},
        {"mean": "AADAfw=="},
        {"mean": "AAA!AAA=="},
        {"nearest": [[99]] * 20},
        {"nearest": [[-1]] * 20},
        {"nearest": [[20]] * 20},
        {"nearest": [[0], [0, 1]]},
        {"nearest": "x"},
        {"keys": None},
        {"keys": ["k"] * 501},
        {"spread": "wide"},
        {"spread": 1e999},
        {"brightness": []},
        {"brightness": 1e308},
        {"brightness": -1},
        {"spread": -1},
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
