"""transforms.images.samples: any mode becomes 8 bits a sample, and transparent colours are compared in full."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.helpers import data_generation as data
from tests.helpers import generated_images as generated
from tests.helpers.hostile_images import chunk, gif
from transforms.images import decoding, png_chunks, samples
from transforms.images.image_errors import CorruptImage, UnsupportedColour


@pytest.mark.parametrize(
    ("mode", "plain"),
    [
        *(("1", "L"), ("L", "L"), ("LA", "LA"), ("P", "RGB"), ("PA", "RGBA"), ("RGB", "RGB"), ("RGBA", "RGBA")),
        *(("RGBX", "RGB"), ("CMYK", "CMYK"), ("YCbCr", "RGB"), ("LAB", "RGB"), ("I", "L"), ("I;16", "L")),
    ],
)
def test_each_mode_of_pillow_becomes_a_plain_one(mode, plain):
    assert samples.plain(Image.new(mode, (2, 2))).mode == plain


def test_white_of_lab_is_white():
    assert min(samples.plain(Image.new("LAB", (1, 1), (255, 128, 128))).getpixel((0, 0))) >= 253


def test_grey_of_16_bits_with_alpha():
    grey = png_chunks.Picture((1, 1), 16, 4, False, None, b"", None, [])
    image = samples.plain_png(Image.new("RGBA", (1, 1), (9, 9, 9, 200)), grey)
    assert image.mode == "LA" and image.getpixel((0, 0)) == (9, 200)


def test_floating_point_and_a_palette_that_is_missing():
    with pytest.raises(UnsupportedColour, match="floating point"):
        samples.plain(Image.new("F", (2, 2)))
    image = Image.new("P", (2, 2))
    image.palette = None
    with pytest.raises(CorruptImage, match="there is none"):
        samples.plain(image)


def test_sixteen_bits_are_rounded_to_eight():
    wide = np.array([[0, 128, 129, 257, 65535, 70_000, -1]], np.int64)
    assert samples.sixteen_to_eight(wide).tolist() == [[0, 0, 1, 1, 255, 255, 0]]


def png(colour_type: int, depth: int, pixels: np.ndarray, clear: tuple[int, ...], interlaced: bool = False) -> bytes:
    """Returns a PNG of (height, width, bands) samples in which a colour is transparent."""
    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)
    parts = [pixels[y::dy, x::dx] for x, y, dx, dy in generated._PASSES] if interlaced else [pixels]
    rows = b"".join(b"\0" + row for part in parts if part.size for row in generated.packed(part, depth))
    body = chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear)) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND")


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour_type", "depth"), [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16)])
def test_a_transparent_colour_is_compared_in_all_its_bits(colour_type, depth, interlaced):
    most, bands = (1 << depth) - 1, 1 if colour_type == 0 else 3
    values = np.array([most, most - 1, most >> 1, 0])  # two of them differ in the last bit alone
    pixels = np.broadcast_to(values[:, None, None], (4, 4, bands)).astype(np.uint64)
    for clear in (most, most - 1, most >> 1, 0):
        found = decoding.decode(png(colour_type, depth, pixels, (clear,) * bands, interlaced), (4, 4)).pixels[:, 0, 0]
        expected = np.where(values == clear, 255, np.round(values * 255 / most))
        assert np.abs(found - expected).max() <= 1


def test_of_rgb_all_three_samples_are_compared():
    for depth in (8, 16):
        pixels = np.array([[[1, 2, 3], [1, 2, 4], [1, 0, 3], [0, 2, 3]]], np.uint64)
        found = decoding.decode(png(2, depth, pixels, (1, 2, 3)), (1, 4)).pixels
        assert (found[0, :, 0] == 255).tolist() == [True, False, False, False]


def test_bits_beyond_the_depth_are_nothing():
    pixels = np.array([[[0], [15]]], np.uint64)
    assert decoding.decode(png(0, 4, pixels, (0xF0,)), (1, 2)).pixels[0, :, 0].tolist() == [255, 255]


def test_transparent_grey_keeps_its_profile():
    profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(data.linear_grey_profile()))
    for depth, value in ((8, 55), (16, 55 * 257)):
        plain = png(0, depth, np.array([[[value], [0]]], np.uint64), (0,))
        pixels = decoding.decode(plain[:33] + profile + plain[33:], (1, 2)).pixels[0, :, 0]
        assert abs(int(pixels[0]) - 128) <= 1 and pixels[1] == 255


@pytest.mark.parametrize("mode", ["L", "P"])
def test_the_rest_of_a_canvas_is_transparent(mode):
    image = Image.new(mode, (4, 3), 7)
    if mode == "P":
        image.putpalette([7] * 768)
    canvas = samples.on_canvas(image, (1, 1, 3, 2))
    assert np.asarray(canvas.getchannel("A")).tolist() == [[0] * 4, [0, 255, 255, 0], [0] * 4]
    assert canvas.getpixel((1, 1)) == (7, 7, 7, 255)
    assert samples.on_canvas(image, (0, 0, 4, 3)).mode in ("L", "RGB")


def test_a_frame_on_a_larger_canvas():
    pixels = decoding.decode(gif(size=(16, 12)), (12, 16)).pixels
    assert (pixels[:8, :8] == 0).all() and (pixels[8:] == 255).all() and (pixels[:, 8:] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_a_last_row_that_was_never_written_is_blank(mode):
    image = Image.new(mode, (3, 3))
    assert samples.is_last_row_blank(image)
    if mode not in ("LA", "RGBA"):  # of these the alpha channel is asked
        image.putpixel((2, 2), (0, 0, 1) if mode == "RGB" else 1)
        assert not samples.is_last_row_blank(image)
        image.putpixel((2, 2), (0, 0, 0) if mode == "RGB" else 0)
        image.putpixel((2, 1), (0, 0, 1) if mode == "RGB" else 1)  # another row tells nothing
        assert samples.is_last_row_blank(image)
