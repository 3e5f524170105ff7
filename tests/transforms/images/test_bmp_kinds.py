"""transforms.images.bmp_kinds: pixels with masks for their channels, top down and bottom up."""

import struct

import numpy as np
import pytest

from tests.helpers import data_generation as data
from transforms.images import bmp_kinds, decoding
from transforms.images.image_errors import CorruptImage, UnsupportedImage


def bmp(pixels: list[list[int]], bits: int, masks: tuple[int, ...], header: int = 108, compression: int = 3) -> bytes:
    """Returns a BMP of rows from top to bottom; `header` is the size of the second header."""
    code = "<%d" + {16: "H", 32: "L"}[bits]
    rows = [struct.pack(code % len(row), *row) for row in pixels]
    rows = [row + bytes(-len(row) % 4) for row in rows]
    body = b"".join(reversed(rows))
    fields = struct.pack(
        "<IiiHHIIiiII", header, len(pixels[0]), len(pixels), 1, bits, compression, len(body), 2835, 2835, 0, 0
    )
    # Behind the oldest header, or in a longer one: in the same place.
    fields += struct.pack(f"<{len(masks)}I", *masks)
    fields = fields.ljust(header, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(fields) + len(body), 0, 0, 14 + len(fields)) + fields + body


RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)
LAYOUTS = {
    "565": (16, (0xF800, 0x7E0, 0x1F), 0xF800, RED),
    "555": (16, (0x7C00, 0x3E0, 0x1F), 0x7C00, RED),
    "444": (16, (0xF00, 0xF0, 0xF), 0x0F0, GREEN),
    "4444": (16, (0xF00, 0xF0, 0xF, 0xF000), 0xF0F0, GREEN),
    "332": (16, (0xE0, 0x1C, 0x3), 0xE0, RED),
    "1555": (16, (0x7C00, 0x3E0, 0x1F, 0x8000), 0xFC00, RED),
    "10 bits": (32, (0x3FF00000, 0xFFC00, 0x3FF), 0x3FF00000, RED),
    "20 bits of red": (32, (0xFFFFF000, 0xF00, 0xF0), 0xFFFFF000, RED),
    "28 bits of red": (32, (0xFFFFFFF0, 0xC, 0x3), 0xFFFFFFF0, RED),
    "BGRA": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 0xFF00FF00, GREEN),
    "RGBX": (32, (0xFF000000, 0xFF0000, 0xFF00), 0xFF0000, GREEN),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_masks(name):
    bits, masks, pixel, colour = LAYOUTS[name]
    everything = masks[0] | masks[1] | masks[2] | (masks[3] if len(masks) > 3 else 0)
    rows = [[pixel, everything, pixel], [everything] * 3]
    headers = (56, 108, 124) if len(masks) > 3 else (40, 52, 56, 108, 124)
    for header in headers:
        pixels = decoding.decode(bmp(rows, bits, masks, header), (2, 3)).pixels
        assert pixels[0, 0].tolist() == list(colour) and (pixels[0, 1] == WHITE).all() and (pixels[1] == WHITE).all()


def test_levels_are_spread_evenly():
    rows = [[level << 4 for level in range(16)]]
    pixels = decoding.decode(bmp(rows, 16, (0xF00, 0xF0, 0xF)), (1, 16)).pixels
    assert pixels[0, :, 1].tolist() == [17 * level for level in range(16)] and not pixels[..., (0, 2)].any()
    rounded = decoding.decode(bmp([list(range(32))], 16, (0x7C00, 0x3E0, 0x1F)), (1, 32)).pixels
    assert rounded[0, :, 2].tolist() == [round(255 * level / 31) for level in range(32)]


def test_a_channel_without_a_mask_is_zero():
    assert decoding.decode(bmp([[0xFFFF]], 16, (0xF800, 0, 0)), (1, 1)).pixels.tolist() == [[list(RED)]]


def test_without_any_mask_the_channels_are_the_usual_ones():
    assert decoding.decode(bmp([[0xFF0000]], 32, (0, 0, 0)), (1, 1)).pixels.tolist() == [[list(RED)]]


@pytest.mark.parametrize(
    ("bits", "masks", "opaque"),
    [
        (16, (0x7C00, 0x3E0, 0x1F, 0x8000), 0x8000),
        (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 0xFF000000),
    ],
)
def test_alpha_counts_unless_it_is_zero_everywhere(bits, masks, opaque):
    for header in (56, 108):  # the shortest that defines an alpha, and a usual one
        half = decoding.decode(bmp([[masks[0], masks[0] | opaque]], bits, masks, header), (1, 2)).pixels
        assert half.tolist() == [[list(WHITE), list(RED)]]
    none = decoding.decode(bmp([[masks[0], masks[1]]], bits, masks), (1, 2)).pixels
    assert none.tolist() == [[list(RED), list(GREEN)]]
    # The alpha of a short header is not defined, unless the compression says so.
    behind = decoding.decode(bmp([[masks[0], masks[0] | opaque]], bits, masks[:3], 40), (1, 2)).pixels
    assert behind.tolist() == [[list(RED)] * 2]
    said = bmp([[masks[0], masks[0] | opaque]], bits, masks, 40, compression=6)
    assert decoding.decode(said, (1, 2)).pixels.tolist() == [[list(WHITE), list(RED)]]


def test_rows_of_a_negative_height_are_read_from_the_top():
    encoded = bytearray(bmp([[0xF800], [0x7E0]], 16, (0xF800, 0x7E0, 0x1F)))
    encoded[22:26] = struct.pack("<i", -2)
    assert decoding.decode(bytes(encoded), (2, 1)).pixels[:, 0].tolist() == [list(GREEN), list(RED)]


@pytest.mark.parametrize("masks", [(0xF0000, 0xF0, 0xF), (0x505, 0xF0, 0xF)], ids=["beyond", "holes"])
def test_masks_that_are_not_read(masks):
    with pytest.raises(UnsupportedImage, match=r"mask 0x.* of its 16 bits"):
        decoding.decode(bmp([[0, 0]], 16, masks), (1, 2))


def test_a_header_that_is_not_defined():
    with pytest.raises(UnsupportedImage, match="header type"):
        decoding.decode(bmp([[0, 0]], 16, (0xF00, 0xF0, 0xF), header=60), (1, 2))


def test_a_picture_without_width_is_broken():
    encoded = bytearray(data.encoded(data.photograph(0, 12, 16), "BMP"))
    encoded[18:22] = bytes(4)
    with pytest.raises(CorruptImage, match="the BMP's header is broken"):
        bmp_kinds.open_bmp(bytes(encoded))


def test_masks_of_24_bits_are_pillows():
    encoded = bytearray(data.encoded(data.photograph(0, 12, 16), "BMP"))
    encoded[10:14], encoded[30:34] = struct.pack("<I", 54 + 12), struct.pack("<I", 3)
    encoded[54:54] = struct.pack("<3I", 0xFF0000, 0xFF00, 0xFF)
    assert (decoding.decode(bytes(encoded), (12, 16)).pixels == np.asarray(data.photograph(0, 12, 16))).all()


def test_the_oldest_header():
    header = b"BM" + struct.pack("<IHHI", 30, 0, 0, 26) + struct.pack("<IHHHH", 12, 1, 1, 1, 24)
    assert decoding.decode(header + bytes((0, 255, 0, 0)), (1, 1)).pixels.tolist() == [[list(GREEN)]]


def test_others_are_pillows():
    photograph = data.photograph(0, 12, 16)
    encoded = data.encoded(photograph, "BMP")
    assert (decoding.decode(encoded, (12, 16)).pixels == np.asarray(photograph)).all()
    assert bmp_kinds.open_bmp(encoded).format == "BMP"
    with pytest.raises(CorruptImage):
        decoding.decode(bmp([[0, 0]] * 9, 16, (0xF00, 0xF0, 0xF))[:-9], (1, 2))


def test_an_embedded_profile_is_applied():
    profile = data.swapped_profile()
    plain = bmp([[0xC86432] * 4] * 2, 32, (0xFF0000, 0xFF00, 0xFF), header=124)
    edited = bytearray(plain + profile)
    edited[70:74] = b"DEBM"
    edited[126:134] = struct.pack("<2L", len(plain) - 14, len(profile))
    assert decoding.decode(bytes(edited), (2, 4)).pixels[0, 0].tolist() == [100, 200, 50]
    # Without the mark, in a shorter header, or beyond the file there is none.
    for at, value in ((70, b"BGRs"), (14, b"\x6c\0\0\0"), (126, b"\xff\xff\xff\x7f"), (130, b"\x10\0\0\0")):
        other = bytearray(edited)
        other[at : at + 4] = value
        assert decoding.decode(bytes(other), (2, 4)).pixels[0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize("count", [2, 256, 300, 1000])
def test_palettes_of_any_length(count):
    last = min(count, 256) - 1  # that a pixel can have
    colours = (b"\x32\x64\xc8\0".ljust(4 * last, b"\0") + b"\xdc\xb4\x1e\0").ljust(4 * count, b"\0")
    fields = struct.pack("<IiiHHIIiiII", 40, 4, 1, 1, 8, 0, 4, 2835, 2835, count, 0) + colours
    encoded = (
        b"BM" + struct.pack("<IHHI", 18 + len(fields), 0, 0, 14 + len(fields)) + fields + bytes((0, 0, last, last))
    )
    assert decoding.decode(encoded, (1, 4)).pixels[0, ::3].tolist() == [[200, 100, 50], [30, 180, 220]]


def with_palette(bits: int, colours: list[int], pixels: bytes, compression: int = 0, header: int = 40) -> bytes:
    """Returns a BMP of a row of four pixels, whose palette is of greys."""
    fields = struct.pack("<IHHHH", 12, 4, 1, 1, bits)
    if header == 40:
        fields = struct.pack("<IiiHHIIiiII", 40, 4, 1, 1, bits, compression, 4, 2835, 2835, len(colours), 0)
    fields += b"".join(bytes([grey] * 3) + bytes(header == 40) for grey in colours)
    return b"BM" + struct.pack("<IHHI", 14 + len(fields) + len(pixels), 0, 0, 14 + len(fields)) + fields + pixels


# Pillow takes a palette of black and white for a picture of one bit, and greys in their order for one of eight.
GREYS = {
    "8 bits, black and white": (with_palette(8, [0, 255], b"\0\1\1\0"), [0, 255, 255, 0]),
    "4 bits, black and white": (with_palette(4, [0, 255], b"\x01\x10\0\0"), [0, 255, 255, 0]),
    "1 bit, black and white": (with_palette(1, [0, 255], b"\x60\0\0\0"), [0, 255, 255, 0]),
    "1 bit, the oldest header": (with_palette(1, [0, 255], b"\x60\0\0\0", header=12), [0, 255, 255, 0]),
    "8 bits, black and white in runs": (with_palette(8, [0, 255], b"\1\0\2\1\1\0\0\1", 1), [0, 255, 255, 0]),
    "4 bits, black and white in runs": (with_palette(4, [0, 255], b"\1\0\2\x11\1\0\0\1", 2), [0, 255, 255, 0]),
    "8 bits, black alone": (with_palette(8, [0], bytes(4)), [0] * 4),
    "4 bits, black alone": (with_palette(4, [0], bytes(4)), [0] * 4),
    "1 bit, black alone": (with_palette(1, [0], bytes(4)), [0] * 4),
    "4 bits, greys in their order": (with_palette(4, [0, 1, 2, 3], b"\x01\x23\0\0"), [0, 1, 2, 3]),
    "8 bits, greys in their order": (with_palette(8, list(range(256)), bytes((9, 200, 0, 255))), [9, 200, 0, 255]),
}


@pytest.mark.parametrize("name", GREYS)
def test_palettes_of_greys(name):
    encoded, right = GREYS[name]
    assert decoding.decode(encoded, (1, 4)).pixels[0].tolist() == [[grey] * 3 for grey in right]
