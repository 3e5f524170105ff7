"""Neighbours and near-duplicates within a sample."""

import numpy as np

from pipeline.report.neighbours import cosines, near_duplicates, nearest


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


def _similar(rows, pairs):
    similar = np.eye(rows, dtype=np.float32)
    for (a, b), cosine in pairs.items():
        similar[a, b] = similar[b, a] = cosine
    return similar


def test_the_largest_group_comes_first():
    pairs = dict.fromkeys([(0, 1), (2, 4), (4, 6), (2, 6)], 0.99)
    assert near_duplicates(_similar(7, pairs)) == [[2, 4, 6], [0, 1]]
    assert near_duplicates(np.eye(4, dtype=np.float32)) == []
    assert near_duplicates(np.zeros((0, 0), np.float32)) == []


def test_a_chain_is_no_group():
    """Its closest pair is one."""
    assert near_duplicates(_similar(4, {(0, 1): 0.95, (1, 2): 0.98, (2, 3): 0.94})) == [[1, 2]]
    assert near_duplicates(_similar(4, {(0, 1): 0.99, (1, 2): 0.95, (2, 3): 0.98})) == [[0, 1], [2, 3]]


def test_all_pairs_of_a_group_reach_the_threshold():
    """Vectors along a line: each is near the next one, and the ends have nothing in common."""
    angles = np.linspace(0, np.pi, 500)
    similar = cosines(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))
    groups = near_duplicates(similar)
    assert len(groups) > 2 and all(similar[np.ix_(group, group)].min() >= 0.93 for group in groups)
    rows = [row for group in groups for row in group]
    assert len(rows) == len(set(rows)) > 450


def test_equal_rows_are_one_group():
    assert near_duplicates(np.ones((500, 500), np.float32)) == [list(range(500))]


def test_a_pair_of_just_the_threshold_is_a_group():
    similar = _similar(3, {(0, 1): 0.5, (1, 2): 0.499})
    assert near_duplicates(similar, 0.5) == [[0, 1]]


def test_what_is_given_stays_as_it_is():
    similar = cosines(np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32))
    before = similar.copy()
    nearest(similar)
    near_duplicates(similar, -1.0)
    np.testing.assert_array_equal(similar, before)


def test_cosines_reach_no_farther_than_one():
    vectors = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    similar = cosines(np.concatenate([vectors, vectors * 7, -vectors]))
    assert similar.max() == 1.0 and similar.min() == -1.0
