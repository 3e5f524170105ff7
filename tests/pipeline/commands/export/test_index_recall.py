import numpy as np
import pytest

from pipeline.commands.export.index_recall import recall
from pipeline.commands.export.target import METRICS

RNG = np.random.default_rng(3)
# Lengths differ, so that the metrics give different neighbours.
MATRIX = RNG.standard_normal((200, 8), np.float32) * RNG.uniform(0.5, 2, (200, 1)).astype(np.float32)
KEYS = [f"key {i}" for i in range(200)]
QUERIES = (KEYS[:5], MATRIX[:5])
BLOCKS = [(KEYS[:70], MATRIX[:70]), (KEYS[70:], MATRIX[70:])]


def nearest(metric):
    """Returns all keys for each query, the nearest first, by another way than the module's."""
    distances = {
        "cosine": lambda a, b: -a @ b / np.linalg.norm(a) / np.linalg.norm(b),
        "l2": lambda a, b: np.linalg.norm(a - b),
        "ip": lambda a, b: -a @ b,
    }[metric]
    return [[KEYS[i] for i in np.argsort([distances(query, row) for row in MATRIX])] for query in MATRIX[:5]]


@pytest.mark.parametrize("metric", METRICS)
def test_exact_search_has_a_recall_of_one(metric):
    assert recall(QUERIES, [row[:11] for row in nearest(metric)], BLOCKS, metric) == 1


@pytest.mark.parametrize("metric", METRICS)
def test_each_neighbour_that_is_missed_counts(metric):
    answers = [
        [key for key in row if key != own][:7] + row[-3:] for own, row in zip(KEYS, nearest(metric), strict=False)
    ]
    assert recall(QUERIES, answers, BLOCKS, metric) == pytest.approx(0.7)


def test_answers_of_another_metric_are_not_exact():
    assert recall(QUERIES, [row[:11] for row in nearest("ip")], BLOCKS, "l2") < 0.9


def test_copies_stand_for_each_other():
    keys = [f"copy {i}" for i in range(30)]
    blocks = [(keys, np.repeat(MATRIX[:1], 30, axis=0))]
    assert recall((keys[:1], MATRIX[:1]), [keys[15:26]], blocks, "cosine") == 1


def test_fewer_rows_than_neighbours():
    assert recall(QUERIES, [KEYS[:5]] * 5, [QUERIES], "cosine") == 1
    assert recall((KEYS[:1], MATRIX[:1]), [[]], [(KEYS[:1], MATRIX[:1])], "cosine") == 1
