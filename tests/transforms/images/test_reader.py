"""transforms.images.reader: each format is read by what reads it rightly."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from tests.helpers import data_generation as data
from tests.helpers import generated_images as generated
from tests.helpers import hostile_images as hostile
from tests.helpers import jpeg_files
from transforms.images import bmp_kinds, bounds, decoding, fast_jpeg, png_chunks, reader, tiff_kinds
from transforms.images.image_errors import CorruptImage
from transforms.images.resizing import Resizing

GOLDEN = Path(__file__).parents[2] / "golden" / "images"

SMALL = data.photograph(0, 24, 32)


def loaded(encoded: bytes) -> Image.Image:
    with reader.opened(encoded) as picture:
        return picture.load()


@pytest.mark.parametrize(
    "name", sorted({"JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", *reader.FORMATS} - {"MPO"})
)
def test_each_format_is_opened_by_its_reader(name):
    encoded = data.encoded(SMALL, name)
    with reader.opened(encoded) as picture:
        image = picture.image
        assert image.format == name and image.size == picture.size == SMALL.size
        by_us = {"TIFF": tiff_kinds.Tiff, "BMP": bmp_kinds.Bmp, "GIF": bounds._FirstFrame}
        assert type(image) is by_us.get(name, type(image))
    assert loaded(encoded).size == SMALL.size


def test_a_bmp_with_masks_has_its_colours():
    fields = struct.pack("<IiiHHIIiiII", 40, 1, 1, 1, 16, 3, 4, 0, 0, 0, 0) + struct.pack("<3I", 0xF00, 0xF0, 0xF)
    encoded = b"BM" + struct.pack("<IHHI", 70, 0, 0, 66) + fields + struct.pack("<HH", 0xF00, 0)
    assert loaded(encoded).getpixel((0, 0)) == (255, 0, 0)


def test_a_jpeg_with_further_pictures_is_a_jpeg():
    encoded = data.encoded(SMALL, "MPO", save_all=True, append_images=[SMALL])
    with reader.opened(encoded) as picture:
        assert picture.image.format == "MPO" and picture.format == "jpeg"


def test_another_format_is_not_opened():
    for encoded in (data.encoded(SMALL, "PPM"), b"BM" + bytes(10)):
        with pytest.raises(UnidentifiedImageError), reader.opened(encoded):
            pass


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
        with reader.opened(encoded) as picture:
            picture.image.draft("RGB", (130 // reduction, 93 // reduction))
            assert np.array_equal(picture.load(), expected)


def test_pixels_are_what_the_file_means():
    assert loaded(hostile.gif(size=(16, 12))).getpixel((12, 10))[3] == 0  # beside the frame
    white = generated.write_tiff(np.zeros((8, 8, 1), np.uint64), 16, 0)  # white is zero
    assert loaded(white).getpixel((0, 0)) == 255


def test_a_png_is_read_without_what_pillow_refuses():
    encoded = data.encoded(SMALL, "PNG")
    assert np.array_equal(loaded(encoded[:33] + hostile.chunk(b"tEXt", b"k\0v")[:-1] + b"x" + encoded[33:]), SMALL)


def test_metadata_have_their_bounds():
    assert tiff_kinds.TiffImagePlugin.ImageFileDirectory_v2.load is bounds._bounded_load
    with reader.opened(data.encoded(SMALL, "GIF")) as picture:
        assert isinstance(picture.image.fp, bounds._BoundedFile)


def test_a_jpeg_without_its_last_pixels_is_corrupt(monkeypatch):
    encoded = data.jpeg()
    broken = encoded[: len(encoded) // 2] + bytes(len(encoded) // 2) + b"\xff\xd9"
    for library in (fast_jpeg.simplejpeg, None):
        monkeypatch.setattr(fast_jpeg, "simplejpeg", library)
        with pytest.raises(CorruptImage):
            loaded(broken)


@pytest.mark.parametrize("sampling", ["441", "311"])
def test_a_jpeg_whose_sampling_simplejpeg_does_not_know(sampling):
    encoded = (GOLDEN / f"sampling_{sampling}.jpg").read_bytes()
    with Image.open(io.BytesIO(encoded)) as image:
        assert np.array_equal(loaded(encoded), image)
    for size in (96, 12, 4):
        assert decoding.decode(encoded, (size, size)).pixels.std() > 10
        for kept in (0.4, 0.7, 0.95):
            with pytest.raises(CorruptImage):
                decoding.decode(encoded[: int(kept * len(encoded))] + b"\xff\xd9", (size, size))


def test_a_grey_end_is_no_damage_if_libjpeg_does_not_warn():
    grey = Image.new("RGB", (40, 24), (128, 128, 128))
    for options in ({}, {"keep_rgb": True}, {"progressive": True}):
        assert (np.asarray(loaded(data.encoded(grey, "JPEG", **options))) == 128).all()


@pytest.mark.parametrize("parts", [1, 3])
def test_a_profile_behind_the_frame_of_a_jpeg(parts):
    brown = Image.new("RGB", (16, 16), (200, 100, 50))
    encoded = data.encoded(brown, "JPEG", quality=95)
    at = encoded.index(b"\xff\xc4")
    for resizing in ("stretch", Resizing("stretch", "bicubic")):
        for numbers, right in ((range(parts, 0, -1), (100, 200, 50)), (range(2, parts + 2), (200, 100, 50))):
            segments = jpeg_files.profile(data.swapped_profile(), numbers, parts)
            pixels = decoding.decode(encoded[:at] + segments + encoded[at:], (16, 16), resizing).pixels
            assert np.abs(pixels.astype(int) - right).max() <= 4


def animated_webp(flags: int, frames: int) -> bytes:
    """Returns a WebP of 64×64 whose frames fill a quarter; `flags` of the whole file (RFC 9649, section 2.7)."""
    frame = data.encoded(Image.new("RGB", (32, 32), (200, 100, 50)), "WEBP", lossless=True)[12:]
    size = struct.pack("<L", 63)[:3]
    place = bytes(6) + struct.pack("<L", 31)[:3] * 2 + bytes(4)
    frame = b"ANMF" + struct.pack("<L", 16 + len(frame)) + place + frame
    extended = b"VP8X" + struct.pack("<LL", 10, flags) + size * 2
    content = b"WEBP" + extended + b"ANIM" + struct.pack("<LLH", 6, 0xFFFFFFFF, 0) + frame * frames
    return b"RIFF" + struct.pack("<L", len(content)) + content


@pytest.mark.parametrize("flags", [0x02, 0x12], ids=["opaque by its own word", "with alpha"])
@pytest.mark.parametrize("frames", [1, 2])
def test_what_the_first_frame_of_a_webp_leaves_free_is_white(flags, frames):
    pixels = decoding.decode(animated_webp(flags, frames), (64, 64)).pixels
    assert (pixels[:32, :32] == (200, 100, 50)).all()
    assert (pixels[32:] == 255).all() and (pixels[:, 32:] == 255).all()


@pytest.mark.parametrize(
    ("mode", "colour", "right"), [("L", 55, 128), ("LA", (55, 255), 128), ("RGBA", (55, 55, 55, 255), 55)]
)
def test_a_grey_profile_of_a_heic_is_for_a_grey_picture(mode, colour, right):
    pytest.importorskip("pillow_heif", reason="HEIC is an extra")
    profile = data.linear_grey_profile()
    encoded = data.encoded(Image.new(mode, (64, 64), colour), "HEIF", icc_profile=profile)
    assert np.abs(decoding.decode(encoded, (64, 64)).pixels.astype(int) - right).max() <= 3


def test_rows_are_counted_only_where_the_last_may_be_missing(monkeypatch):
    """Adam7 ends with every other row, so that there the last row tells nothing."""
    asked = []
    monkeypatch.setattr(png_chunks, "has_all_rows", lambda png: asked.append(png.is_interlaced) or True)
    image = data.encoded(SMALL, "PNG")
    pixels = np.full((9, 9, 1), 200, np.uint64)
    rows = [row for x, y, dx, dy in generated._PASSES for row in generated.packed(pixels[y::dy, x::dx], 8)]
    header = struct.pack(">IIBBBBB", 9, 9, 8, 0, 0, 0, 1)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b""))
    interlaced = png_chunks.SIGNATURE + b"".join(hostile.chunk(*part) for part in parts)
    for encoded in (image, interlaced):
        loaded(encoded)
    assert asked == [True]


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
