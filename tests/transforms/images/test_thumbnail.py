"""Small JPEGs of images."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.helpers import data_generation as data
from transforms.images import fast_jpeg, thumbnail


def _pixels(encoded):
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"), np.float32)


@pytest.mark.parametrize("is_fast", [True, False])
@pytest.mark.parametrize(
    ("height", "width", "small"), [(224, 224, (96, 96)), (300, 100, (96, 32)), (1, 4000, (1, 96)), (20, 30, (20, 30))]
)
def test_the_longer_side_has_96_pixels(monkeypatch, is_fast, height, width, small):
    if not is_fast:
        monkeypatch.setattr(fast_jpeg, "simplejpeg", None)
    encoded = thumbnail.of_pixels(np.full((height, width, 3), (200, 100, 50), np.uint8))
    pixels = _pixels(encoded)
    assert pixels.shape == (*small, 3)
    assert np.abs(pixels - (200, 100, 50)).max() <= 4  # a JPEG of one colour


def test_the_brightness_is_the_mean():
    pixels = np.asarray(data.photograph(1, 224, 224))
    assert thumbnail.brightness(pixels) == pytest.approx(pixels.mean(), abs=1)  # of one pixel in 16
    assert thumbnail.brightness(np.full((3, 3, 3), 255, np.uint8)) == 255


def test_the_first_half_of_a_truncated_image_is_seen():
    encoded = data.jpeg(1, 600, 800)
    whole, half = (_pixels(thumbnail.of_broken(part)) for part in (encoded, encoded[: len(encoded) // 2]))
    assert np.abs(whole[:24] - half[:24]).mean() < 8 and half[-16:].std() < 2


@pytest.mark.parametrize(
    "encoded", [b"", b"hello", data.jpeg()[:200], data.oversized_png()], ids=["nothing", "text", "header", "large"]
)
def test_what_cannot_be_decoded_has_none(encoded):
    assert thumbnail.of_broken(encoded) == b""
