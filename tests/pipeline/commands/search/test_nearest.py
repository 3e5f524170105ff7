"""Exact search against all cosines at once: keys that come again, blocks of any size, ties, and broken vectors."""

import numpy as np
import pytest

from pipeline.commands.search import nearest as module
from pipeline.commands.search.nearest import cosines, nearest


def _blocks(keys, matrix, query, size):
    return [
        (keys[start : start + size], cosines(matrix[start : start + size], query))
        for start in range(0, len(keys), size)
    ]


def _expected(keys, matrix, query, count):
    last = dict(zip(keys, cosines(matrix, query), strict=True))
    return sorted(last.items(), key=lambda item: (-item[1], item[0]))[:count]


def _assert_same(neighbours, expected):
    assert [each.key for each in neighbours] == [key for key, _ in expected]
    # A product of another shape adds in another order.
    assert [each.cosine for each in neighbours] == pytest.approx([cosine for _, cosine in expected], abs=1e-6)


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("count", [1, 5, 50])
def test_the_same_as_all_cosines_at_once(size, count):
    random = np.random.default_rng(0)
    matrix = random.standard_normal((300, 8)).astype(np.float32)
    keys = [b"%d" % number for number in range(300)]
    query = random.standard_normal(8).astype(np.float32)
    _assert_same(nearest(lambda: _blocks(keys, matrix, query, size), count), _expected(keys, matrix, query, count))


@pytest.mark.parametrize("seed", range(5))
def test_the_last_vector_of_a_key_counts_even_if_it_takes_the_place_of_every_candidate(monkeypatch, seed):
    monkeypatch.setattr(module, "_SPARE", 2)
    random = np.random.default_rng(seed)
    query = random.standard_normal(4).astype(np.float32)
    matrix = random.standard_normal((400, 4)).astype(np.float32)
    by_cosine = np.argsort(-cosines(matrix, query))
    again = by_cosine[:100]  # the nearest ones get other vectors later
    keys = [b"%d" % number for number in range(400)] + [b"%d" % number for number in again]
    matrix = np.concatenate([matrix, random.standard_normal((100, 4)).astype(np.float32)])
    _assert_same(nearest(lambda: _blocks(keys, matrix, query, 16), 10), _expected(keys, matrix, query, 10))


def test_all_are_looked_at_again_if_one_that_was_dropped_may_be_nearer(monkeypatch):
    """The candidates get worse vectors after nearer ones than these were dropped."""
    monkeypatch.setattr(module, "_SPARE", 1)
    first = [b"%d" % number for number in range(9)]
    values = np.linspace(0.9, 0.1, 9, dtype=np.float32)
    blocks = [(first, values), ([*first[:2], b"late"], np.float32([-0.5, -0.5, 0.5]))]
    assert [each.key for each in nearest(lambda: blocks, 1)] == [b"2"]


def test_no_cosine_is_larger_than_one():
    matrix = np.random.default_rng(0).standard_normal((2_000, 8)).astype(np.float32)
    values = [cosines(row[None], row)[0] for row in matrix]
    assert max(values) == 1 and min(cosines(-row[None], row)[0] for row in matrix) == -1


def test_equal_cosines_are_in_the_order_of_their_keys():
    blocks = [([b"d", b"a", b"c", b"b"], np.ones(4, np.float32))]
    assert [each.key for each in nearest(lambda: blocks, 3)] == [b"a", b"b", b"c"]


def test_fewer_vectors_than_asked_for():
    assert nearest(lambda: [([b"a"], np.ones(1, np.float32))], 10) == [(b"a", 1.0)]
    assert nearest(list, 10) == []


@pytest.mark.parametrize(("value", "cosine"), [(0.0, 0.0), (np.nan, -1.0), (np.inf, -1.0), (3e38, -1.0)])
def test_a_vector_without_a_direction_is_no_neighbour(value, cosine):
    assert cosines(np.full((1, 2), value, np.float32), np.ones(2, np.float32)) == [cosine]
