"""transforms.encoding.top_classes: best classes, of logits and of probabilities."""

import numpy as np

from transforms.encoding.top_classes import ranked


def test_of_logits():
    best, scores = ranked(np.array([[1, 3, 2], [0, -5, 100]], np.float32), 2, are_probabilities=False)
    assert best.tolist() == [[1, 2], [2, 0]] and best.dtype == np.int64
    weights = np.exp([1, 3, 2])
    np.testing.assert_allclose(scores[0], [weights[1] / weights.sum(), weights[2] / weights.sum()], rtol=1e-6)
    np.testing.assert_allclose(scores[1], [1, 0], atol=1e-6)


def test_of_probabilities():
    """Those of a quantized network do not sum to 1, and those of a sigmoid need not."""
    outputs = np.array([[0.2, 0.7, 0.1], [0.75, 0, 0.75]], np.float32)
    best, scores = ranked(outputs, 5, are_probabilities=True)
    assert best.tolist() == [[1, 0, 2], [0, 2, 1]]
    np.testing.assert_allclose(scores, [[0.7, 0.2, 0.1], [0.75, 0.75, 0]])


def test_logits_of_any_size_and_equal_ones():
    best, scores = ranked(np.array([[1e30, 5, 1e30], [-1e30, -1e30, -2e30]], np.float32), 3, are_probabilities=False)
    assert best.tolist() == [[0, 2, 1], [0, 1, 2]]  # of equal ones, the first
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, [[0.5, 0.5, 0], [0.5, 0.5, 0]])


def test_of_many_equal_classes_the_first_come_first():
    outputs = np.tile(np.array([0, 2, 1], np.float32), 300)
    best, _ = ranked(outputs[None], 900, are_probabilities=True)
    assert best.tolist() == [[*range(1, 900, 3), *range(2, 900, 3), *range(0, 900, 3)]]
