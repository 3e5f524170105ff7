"""transforms.images.reader: each format is read by what reads it rightly."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from tests import data_generation as data
from transforms.images import fast_jpeg, png_chunks, reader, tiff_kinds
from transforms.images.image_errors import CorruptImage

SMALL = data.photograph(0, 24, 32)


def loaded(encoded: bytes) -> Image.Image:
    png = png_chunks.parse(encoded) if encoded.startswith(png_chunks.SIGNATURE) else None
    with reader.opened(encoded, png) as image:
        return reader.loaded(image, encoded, image.size, png)


@pytest.mark.parametrize("name", [name for name in reader.FORMATS if name != "MPO"])
def test_formats(name):
    encoded = data.encoded(SMALL, name)
    png = png_chunks.parse(encoded) if name == "PNG" else None
    with reader.opened(encoded, png) as image:
        assert image.format == name and image.size == SMALL.size
        assert isinstance(image, tiff_kinds.Tiff) is (name == "TIFF")
    assert loaded(encoded).size == SMALL.size


def test_another_format():
    with pytest.raises(UnidentifiedImageError):
        reader.opened(data.encoded(SMALL, "PPM"), None)


@pytest.mark.parametrize(
    ("mode", "options"),
    [("L", {}), ("RGB", {}), ("CMYK", {}), ("RGB", {"keep_rgb": True}), ("RGB", {"progressive": True})],
    ids=str,
)
@pytest.mark.parametrize("reduction", [1, 2, 8])
def test_a_jpeg_has_the_same_pixels_by_either_library(monkeypatch, mode, options, reduction):
    encoded = data.encoded(data.photograph(1, 93, 130).convert(mode), "JPEG", quality=85, **options)
    with Image.open(io.BytesIO(encoded)) as image:
        image.draft("RGB", (130 // reduction, 93 // reduction))
        image.load()
        expected = np.asarray(image)
    for library in (fast_jpeg.simplejpeg, None):
        monkeypatch.setattr(fast_jpeg, "simplejpeg", library)
        image = reader.opened(encoded, None)
        image.draft("RGB", (130 // reduction, 93 // reduction))
        assert np.array_equal(reader.loaded(image, encoded, (130, 93), None), expected)


def test_a_black_picture_is_no_picture_without_rows():
    black = Image.new("RGB", (40, 30))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        assert loaded(data.encoded(black.convert(mode), "PNG")).size == (40, 30)
    encoded = data.encoded(black, "PNG")
    taller = bytearray(encoded)
    taller[23] += 1
    taller[29:33] = zlib.crc32(taller[12:29]).to_bytes(4)
    with pytest.raises(CorruptImage, match="fewer rows"):
        loaded(bytes(taller))
