"""Collapsed and constant vectors."""

import numpy as np

from pipeline.report.neighbours import cosines
from pipeline.report.page.collapse import variety


def _variety(vectors):
    return variety(vectors.astype(np.float32), cosines(vectors.astype(np.float32)))


def test_vectors_that_differ_are_no_collapse():
    of_sample = _variety(np.random.default_rng(0).standard_normal((30, 16)))
    assert not of_sample.is_collapsed and not of_sample.is_mostly_constant and of_sample.constant == 0


def test_vectors_around_one_direction_are_a_collapse():
    rng = np.random.default_rng(0)
    of_sample = _variety(rng.standard_normal(16) + 0.02 * rng.standard_normal((30, 16)))
    assert of_sample.is_collapsed and of_sample.median_cosine > 0.98


def test_constant_components_are_counted():
    vectors = np.random.default_rng(0).standard_normal((30, 16))
    vectors[:, :9] = 0
    of_sample = _variety(vectors)
    assert of_sample.constant == 9 and of_sample.is_mostly_constant


def test_few_images_may_be_similar():
    assert not _variety(np.ones((7, 4))).is_collapsed
    assert _variety(np.ones((8, 4))).is_collapsed
    assert _variety(np.zeros((0, 4))).images == 0


def test_the_median_is_of_pairs_of_two_images():
    assert _variety(np.eye(3)).median_cosine == 0.0
    assert _variety(np.array([[1, 0], [1, 0], [1, 1]])).median_cosine == np.float32(0.5**0.5)
    assert _variety(np.ones((1, 4))).median_cosine == 0.0


def test_half_of_the_components_may_be_constant():
    vectors = np.random.default_rng(0).standard_normal((8, 16))
    vectors[:, :8] = 3
    assert _variety(vectors).constant == 8 and not _variety(vectors).is_mostly_constant
    vectors[:, 8] = 3
    assert _variety(vectors).is_mostly_constant and not _variety(vectors[:7]).is_mostly_constant
