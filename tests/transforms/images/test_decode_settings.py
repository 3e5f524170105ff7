"""transforms.images.decode_settings: settings are checked where they are made, and travel to workers."""

import pickle

import pytest

from transforms.images.decode_settings import DecodeSettings
from transforms.images.resizing import Resizing


def test_settings_travel_by_pickle_and_are_a_key():
    settings = DecodeSettings((8, 9), Resizing("pad"), 10)
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - written here
    assert {settings: 1}[DecodeSettings((8, 9), Resizing("pad"), 10)] == 1


@pytest.mark.parametrize("size", [(8,), (0, 8), (8, -1), (8, 8, 3)])
def test_a_wrong_size(size):
    with pytest.raises(ValueError, match=r"expected \(height, width\) in pixels"):
        DecodeSettings(size)


def test_no_pixels_at_all():
    with pytest.raises(ValueError, match="max_pixels=0: expected a number from 1"):
        DecodeSettings((8, 8), max_pixels=0)
