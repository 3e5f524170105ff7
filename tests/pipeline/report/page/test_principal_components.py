"""The map of a sample."""

import numpy as np
import pytest

from pipeline.report.page.principal_components import plane


def test_the_plane_is_that_of_the_singular_vectors():
    vectors = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32) * np.linspace(
        5, 1, 16, dtype=np.float32
    )
    points, share = plane(vectors)
    centred = vectors - vectors.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    for axis in range(2):  # up to its sign and its scale; float32
        assert abs(np.corrcoef(points[:, axis], left[:, axis])[0, 1]) == pytest.approx(1, abs=1e-4)
    assert share == pytest.approx(float((singular[:2] ** 2).sum() / (singular**2).sum()), abs=1e-4)
    np.testing.assert_allclose([points.min(axis=0), points.max(axis=0)], [[-1, -1], [1, 1]], atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_equal_vectors_have_no_plane(count):
    points, share = plane(np.ones((count, 8), np.float32))
    assert points.shape == (count, 2) and not points.any() and share == 0


def test_two_vectors_lie_on_a_line():
    points, share = plane(np.array([[0, 0, 1], [0, 0, 3]], np.float32))
    assert sorted(points[:, 0].tolist()) == [-1, 1] and share == pytest.approx(1)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_vector_farthest_from_the_mean_is_on_the_positive_side(sign):
    vectors = np.array([[0, 0], [0, 1], [0, -1], [9 * sign, 0]], np.float32)
    points, _ = plane(vectors)
    assert points[:, 0].argmax() == 3


@pytest.mark.parametrize("seed", range(10))
def test_each_axis_points_to_the_vector_farthest_from_the_mean(seed):
    points, _ = plane(np.random.default_rng(seed).exponential(size=(9, 5)).astype(np.float32))
    from_mean = points - points.mean(axis=0)
    assert (from_mean[np.abs(from_mean).argmax(axis=0), [0, 1]] > 0).all()
