"""Groups of images that look the same."""

import numpy as np
import pytest

from examples import near_duplicates
from tests.helpers.example_docs import first_command, shown
from tests.helpers.running import ROOT


def test_pairs_are_those_of_all_rows_whatever_the_block(monkeypatch):
    matrix = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    units = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    expected = [(int(a), int(b)) for a, b in zip(*np.nonzero(np.triu(units @ units.T, 1) >= 0.9), strict=True)]
    for block in (1, 7, 1024):
        monkeypatch.setattr(near_duplicates, "BLOCK", block)
        assert [(one, other) for one, other, _ in near_duplicates.near_pairs(matrix, 0.9)] == expected


def test_a_row_is_in_the_group_of_the_first_row_near_it():
    pairs = iter([(0, 1, 0.9), (0, 2, 0.8), (1, 3, 0.99), (2, 4, 0.95), (3, 4, 0.9)])
    assert near_duplicates.groups(pairs) == {0: {1: 0.9, 2: 0.8}, 3: {4: 0.9}}


def test_a_vector_of_zeros_is_near_nothing():
    assert list(near_duplicates.near_pairs(np.zeros((3, 4), np.float32), 0.5)) == []


@pytest.mark.slow
def test_the_groups_of_the_sample_images_are_printed_as_shown(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    assert near_duplicates.main(first_command(near_duplicates, output=tmp_path)) == 0
    printed = capfd.readouterr().out.replace(f"{ROOT}/", "…/")
    assert "13 images listed = 13 embedded" in printed
    assert printed.endswith(shown(near_duplicates))
