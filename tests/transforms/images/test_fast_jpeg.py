"""transforms.images.fast_jpeg: the same pixels as Pillow gives, and Pillow wherever it does not know."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tests.helpers import data_generation as data
from transforms.images import decoding, fast_jpeg
from transforms.images.resizing import RESIZE_MODES

pytestmark = pytest.mark.skipif(fast_jpeg.simplejpeg is None, reason="no wheels of simplejpeg and cykooz.resizer here")


@pytest.fixture
def taken(monkeypatch):
    """Whether the fast path gave the pixels, for each image that was decoded."""
    calls = []
    right = fast_jpeg.decode

    def decode(*args):
        found = right(*args)
        calls.append(found is not None)
        return found

    monkeypatch.setattr(fast_jpeg, "decode", decode)
    return calls


def by_pillow(monkeypatch, *args):
    with monkeypatch.context() as without:
        without.setattr(fast_jpeg, "simplejpeg", None)
        return decoding.decode(*args)


@pytest.mark.parametrize("resize_mode", RESIZE_MODES)
@pytest.mark.parametrize("stored", [(480, 640), (1201, 1603), (50, 37), (997, 300)])
def test_pixels_are_those_of_pillow(taken, monkeypatch, stored, resize_mode):
    encoded = data.encoded(data.photograph(1, *stored), "JPEG", quality=90)
    args = encoded, (224, 160), resize_mode
    expected, found = by_pillow(monkeypatch, *args), decoding.decode(*args)
    assert taken[-1] and found[1:] == expected[1:]
    assert np.abs(np.subtract(found.pixels, expected.pixels, dtype=np.int16)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_left_to_the_same_code(taken, monkeypatch, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = data.encoded(data.photograph(2, 300, 700), "JPEG", quality=90, exif=exif)
    expected, found = by_pillow(monkeypatch, encoded, (96, 128), "crop"), decoding.decode(encoded, (96, 128), "crop")
    assert taken[-1]
    assert np.abs(np.subtract(found.pixels, expected.pixels, dtype=np.int16)).max() <= 1


def test_progressive_and_subsampled(taken, monkeypatch):
    for options in ({"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"optimize": True, "quality": 30}):
        encoded = data.encoded(data.photograph(3, 480, 640), "JPEG", **options)
        expected, found = by_pillow(monkeypatch, encoded, (224, 224)), decoding.decode(encoded, (224, 224))
        assert taken[-1]
        assert np.abs(np.subtract(found.pixels, expected.pixels, dtype=np.int16)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_are_pillows(taken, mode):
    encoded = data.encoded(data.photograph(4).convert(mode), "JPEG", quality=90)
    decoding.decode(encoded, (64, 64))
    assert taken == []


def test_rgb_without_a_colour_transform_is_pillows(taken, monkeypatch):
    encoded = data.encoded(data.photograph(4), "JPEG", quality=90, keep_rgb=True)
    decoding.decode(encoded, (64, 64))
    assert taken == [False]


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_as_broken_as_to_pillow(taken, monkeypatch, kept):
    encoded = data.encoded(data.photograph(5, 300, 400), "JPEG", quality=90)
    broken = encoded[: int(len(encoded) * kept)]
    with pytest.raises(decoding.CorruptImage) as expected:
        by_pillow(monkeypatch, broken, (64, 64))
    with pytest.raises(decoding.CorruptImage, match=str(expected.value).replace("(", r"\(").replace(")", r"\)")):
        decoding.decode(broken, (64, 64))
    assert not any(taken)


def test_a_header_that_two_parsers_read_differently_is_pillows(monkeypatch):
    encoded = data.encoded(data.photograph(6, 300, 400), "JPEG", quality=90)
    assert fast_jpeg.decode(encoded, (400, 300), (400, 300), (0, 0, 400, 300), (64, 64)) is not None
    # Nothing is decoded, however large the other parser says that the image is.
    with monkeypatch.context() as patch:
        patch.setattr(fast_jpeg.simplejpeg, "decode_jpeg", lambda *args, **options: pytest.fail("pixels were decoded"))
        for stored in ((100, 100), (400, 301), (401, 300), (300, 400)):
            assert fast_jpeg.decode(encoded, stored, stored, (0, 0, 100, 100), (64, 64)) is None
    # Two frame headers: the larger one must not get past the bound by hiding behind the smaller.
    at = encoded.index(b"\xff\xc0")
    length = struct.unpack(">H", encoded[at + 2 : at + 4])[0] + 2
    frame = bytearray(encoded[at : at + length])
    frame[5:9] = struct.pack(">HH", 10, 10)
    doubled = encoded[:at] + bytes(frame) + encoded[at:]
    with pytest.raises(decoding.ImageError):
        decoding.decode(doubled, (64, 64), "stretch", 1000)
    with Image.open(io.BytesIO(doubled)) as image:
        assert fast_jpeg.decode(doubled, image.size, image.size, (0, 0, 10, 10), (8, 8)) is None


def test_pixels_of_another_size_than_the_box_is_for_are_not_taken(monkeypatch):
    encoded = data.encoded(data.photograph(6, 300, 400), "JPEG", quality=90)
    args = encoded, (400, 300), (200, 150), (0, 0, 200, 150), (64, 64)
    assert fast_jpeg.decode(*args) is not None
    monkeypatch.setattr(fast_jpeg.simplejpeg, "decode_jpeg", lambda *args, **options: np.zeros((151, 200, 3), np.uint8))
    assert fast_jpeg.decode(*args) is None


@pytest.mark.parametrize("box", [(0, 0, 400, 300), (0, 0, 200, 300), (100, 75, 300, 225), (200.5, 0, 400, 150.25)])
@pytest.mark.parametrize("size", [(400, 300), (64, 48), (300, 400)])
def test_the_callers_array_gets_the_pixels_of_the_part(box, size):
    encoded = data.encoded(data.photograph(6, 300, 400), "JPEG", quality=90)
    expected = fast_jpeg.decode(encoded, (400, 300), (400, 300), box, size)
    out = np.full((size[1], size[0], 3), 7, np.uint8)
    assert fast_jpeg.decode(encoded, (400, 300), (400, 300), box, size, out) is not None
    np.testing.assert_array_equal(out, expected)
    with Image.open(io.BytesIO(encoded)) as image:
        by_pillow = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box))
    assert np.abs(np.subtract(out, by_pillow, dtype=np.int16)).max() <= 2  # rounding, in two steps


def test_a_progressive_jpeg_whose_last_scan_never_came_is_not_taken():
    encoded = data.encoded(data.photograph(3, 48, 64), "JPEG", progressive=True)
    last = encoded.rindex(b"\xff\xda")
    for content, is_taken in ((encoded, True), (encoded[:last] + b"\xff\xd9", False)):
        pixels = fast_jpeg.decode(content, (64, 48), (64, 48), (0, 0, 64, 48), (64, 48))
        assert (pixels is not None) is is_taken


@pytest.mark.parametrize("transform", [0, 2], ids=["CMYK", "YCCK"])
def test_inks_are_as_stored(transform):
    encoded = bytearray(data.encoded(data.photograph(4, 48, 64).convert("CMYK"), "JPEG", quality=90))
    encoded[encoded.index(b"Adobe") + 11] = transform
    pixels = fast_jpeg.unresized(bytes(encoded), (64, 48), (64, 48), "CMYK")
    with Image.open(io.BytesIO(encoded)) as image:
        np.testing.assert_array_equal(pixels, 255 - np.asarray(image))  # Adobe stores inks inverted
