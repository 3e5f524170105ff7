"""Neighbours and near-duplicates within a sample."""

import numpy as np

from pipeline.report.page.neighbours import cosines, near_duplicates, nearest


def test_cosines_are_exact_and_none_is_nan():
    vectors = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    expected = [[1, 0.5**0.5, 0], [0.5**0.5, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(cosines(vectors), expected, atol=1e-7)  # float32


def test_the_nearest_come_first_and_never_the_row_itself():
    vectors = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    similar = cosines(vectors)
    rows = nearest(similar)
    assert rows.shape == (50, 5)
    for row, others in enumerate(rows):
        order = sorted(set(range(50)) - {row}, key=lambda other: -similar[row, other])
        assert others.tolist() == order[:5]


def test_few_rows_have_few_neighbours():
    assert nearest(cosines(np.eye(3, dtype=np.float32))).shape == (3, 2)
    assert nearest(cosines(np.eye(1, dtype=np.float32))).shape == (1, 0)
    assert nearest(cosines(np.zeros((0, 4), np.float32))).shape == (0, 0)


def test_groups_join_chains_and_the_largest_comes_first():
    similar = np.eye(7, dtype=np.float32)
    for a, b in ((0, 1), (2, 4), (4, 6)):
        similar[a, b] = similar[b, a] = 0.99
    assert near_duplicates(similar) == [[2, 4, 6], [0, 1]]
    assert near_duplicates(np.eye(4, dtype=np.float32)) == []
