"""The suite's arithmetic, on batches with known rates."""

import pytest

from benchmarks import measures
from benchmarks.measures import Batch, Spread


def test_steady_state_leaves_out_the_first_batch_and_the_start():
    batches = [Batch(5, 10, 32), Batch(10, 12, 32), Batch(13, 14, 16)]
    assert measures.steady_state(batches) == (32 + 16) / 4


def test_two_calls_at_once_are_not_faster_for_having_begun_together():
    """Two threads, each 10 images in 2 s: 10 images a second, however their ends lie."""
    together = [Batch(end - 2, end, 10) for end in (2, 2.000001, 4, 4.000001, 6, 6.000001)]
    assert measures.steady_state(together) == pytest.approx(10, rel=1e-3)
    staggered = [Batch(end - 2, end, 10) for end in (2, 3, 4, 5, 6, 7)]
    assert measures.steady_state(staggered) == pytest.approx(9)  # of the last second one thread has nothing to do


def test_a_batch_in_flight_when_the_window_opens_counts_in_part():
    assert measures.steady_state([Batch(0, 4, 8), Batch(2, 6, 8)]) == 4 / 2


@pytest.mark.parametrize("batches", [[Batch(0, 1, 8)], [Batch(0, 1, 8), Batch(0, 1, 8)]], ids=["one", "at once"])
def test_there_is_no_steady_state_without_time_between_ends(batches):
    assert measures.steady_state(batches) is None


def test_batches_are_read_in_the_order_in_which_they_ended(tmp_path):
    path = tmp_path / "batches.jsonl"
    path.write_text("[3.0, 4.0, 2]\n[1.0, 2.0, 32]\n")
    assert measures.read_batches(path) == [Batch(1, 2, 32), Batch(3, 4, 2)]


def test_spread_is_median_least_and_greatest_of_what_was_measured():
    assert measures.spread([3, None, 1, 10]) == Spread(3, 1, 10)
    assert measures.spread([None]) is None


def test_ratio_is_of_medians():
    assert measures.ratio(Spread(3, 1, 9), Spread(2, 2, 2)) == 1.5
    assert measures.ratio(Spread(3, 1, 9), None) is None


def test_fastest_goes_by_the_median():
    assert measures.fastest([Spread(2, 1, 9), None, Spread(3, 3, 3)]) == Spread(3, 3, 3)
    assert measures.fastest([None]) is None
