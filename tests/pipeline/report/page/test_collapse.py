"""Collapsed and constant vectors."""

import numpy as np

from pipeline.report.page.collapse import spread
from pipeline.report.page.neighbours import cosines


def _spread(vectors):
    return spread(vectors.astype(np.float32), cosines(vectors.astype(np.float32)))


def test_vectors_that_differ_are_no_collapse():
    of_sample = _spread(np.random.default_rng(0).standard_normal((30, 16)))
    assert not of_sample.is_collapsed and not of_sample.is_mostly_constant and of_sample.constant == 0


def test_vectors_around_one_direction_are_a_collapse():
    rng = np.random.default_rng(0)
    of_sample = _spread(rng.standard_normal(16) + 0.02 * rng.standard_normal((30, 16)))
    assert of_sample.is_collapsed and of_sample.median_cosine > 0.98


def test_constant_components_are_counted():
    vectors = np.random.default_rng(0).standard_normal((30, 16))
    vectors[:, :9] = 0
    of_sample = _spread(vectors)
    assert of_sample.constant == 9 and of_sample.is_mostly_constant


def test_few_images_may_be_similar():
    assert not _spread(np.ones((7, 4))).is_collapsed
    assert _spread(np.ones((8, 4))).is_collapsed
    assert _spread(np.zeros((0, 4))).images == 0
