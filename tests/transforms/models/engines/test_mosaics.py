"""transforms.models.engines.mosaics: pictures of any size, with structure, the same ones every time."""

import numpy as np
import pytest

from transforms.models.engines.mosaics import mosaics


@pytest.mark.parametrize("size", [(224, 224), (24, 40), (8, 8), (5, 3), (1, 1)])
def test_mosaics_of_any_size(size):
    pictures = mosaics(2, size)
    assert pictures.shape == (2, *size, 3) and pictures.dtype == np.uint8
    np.testing.assert_array_equal(pictures, mosaics(2, size))
    assert (pictures[0] != pictures[1]).any()


def test_tiles_are_of_one_colour_each():
    (picture,) = mosaics(1, (16, 24))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 64
    assert (picture[:2, :3] == picture[0, 0]).all() and (picture[2, 0] != picture[0, 0]).any()
