"""Images that decoders get wrong in public reports: the right colours of each, or the right failure."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import generated_images as generated
from tests.helpers import hostile_images as hostile
from transforms.images import decoding, fast_jpeg
from transforms.images.resizing import Resizing

GOLDEN = Path(__file__).parents[2] / "golden" / "images"

Colour = tuple[int, int, int]
WHITE, BLACK, BROWN, GREY = (255, 255, 255), (0, 0, 0), (200, 100, 50), (200, 200, 200)
# BROWN in Display P3, and in light.
FROM_P3, FROM_LINEAR = (215, 93, 31), (229, 168, 122)


def halves(bands: int, depth: int, left: tuple[int, ...], right: tuple[int, ...]) -> np.ndarray:
    samples = np.zeros((64, 64, bands), np.uint64)
    samples[:, :32], samples[:, 32:] = left, right
    return samples


def bmp(alpha: int) -> bytes:
    """Returns a BMP of BROWN with masks for four channels of 8 bits (BITMAPV4HEADER)."""
    pixels = bytes((50, 100, 200, alpha)) * 64 * 64
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 64, 64, 1, 32, 3, len(pixels), 2835, 2835, 0, 0) + masks + bytes(52)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def with_text(size: int) -> bytes:
    """Returns a PNG of BROWN with a compressed text of so many bytes that hardly compress."""
    noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8).tobytes()
    plain = golden("crc_phys.png")
    at = plain.index(b"IDAT") - 4
    return plain[:at] + hostile.chunk(b"zTXt", b"Comment\0\0" + zlib.compress(noise)) + plain[at:]


def half_of_the_rows() -> bytes:
    """Returns a PNG whose compressed stream ends validly after half of the rows."""
    return hostile.png(size=(64, 64), pixels=zlib.compress((b"\0" + b"\x80" * 64) * 32))


def thumbnail() -> bytes:
    """Returns a TIFF whose first picture is a reduced one, with the version of a DNG."""
    samples = halves(3, 8, (255, 0, 0), (255, 0, 0))
    more = [(254, 4, struct.pack("<L", 1)), (50706, 1, b"\1\4\0\0")]
    return generated.write_tiff(samples, 8, 2, rows_per_strip=64, more=more)


def floating_point() -> bytes:
    samples = np.full((8, 8, 3), np.float32(0.5).view(np.uint32), np.uint64)
    return generated.write_tiff(samples, 32, 2, more=[(339, 3, struct.pack("<3H", 3, 3, 3))])


SIXTEEN = tuple(257 * value for value in BROWN)
# name → file, colours of the left and of the right half
RIGHT: dict[str, tuple[bytes, Colour, Colour]] = {
    "a profile of Android, whose description names sRGB": (golden("icc_p3_android.jpg"), FROM_P3, FROM_P3),
    "a profile of Samsung, whose description names sRGB": (golden("icc_p3_samsung.png"), FROM_P3, FROM_P3),
    "a linear profile, whose description names sRGB": (golden("icc_linear_elle.png"), FROM_LINEAR, FROM_LINEAR),
    "a profile of sRGB itself": (golden("icc_true_srgb.jpg"), BROWN, BROWN),
    "a profile of 1.1 MiB, which compresses well": (golden("big_icc_1100k_zeros.png"), FROM_P3, FROM_P3),
    "1.5 MiB of compressed text": (with_text(1_500_000), BROWN, BROWN),
    "a TIFF of 12 bits": (golden("tiff_12bit_halves.tif"), BLACK, WHITE),
    "a TIFF of 16 bits, white is zero": (golden("tiff_16bit_halves_ph0_le.tif"), WHITE, BLACK),
    "a wrong checksum in pHYs": (golden("crc_phys.png"), BROWN, BROWN),
    "a wrong checksum in iCCP": (golden("crc_iccp.png"), BROWN, BROWN),  # without the profile, as libpng
    "a BMP whose alpha is 0 everywhere": (bmp(0), BROWN, BROWN),
    "a BMP whose alpha is 128": (bmp(128), (227, 177, 152), (227, 177, 152)),
    "grey and alpha with a profile": (golden("g9_LA_opaque.png"), (168, 168, 168), (168, 168, 168)),
    "tRNS of 16-bit RGB": (golden("t10_rgb16.png"), WHITE, BROWN),
    "tRNS of 4-bit grey": (golden("t10_g4.png"), WHITE, (204, 204, 204)),
    "tRNS of 16-bit RGB that equals no pixel": (golden("q15_trns_false_pos.png"), BROWN, BROWN),
    "16-bit RGB in planes": (
        generated.write_tiff(halves(3, 16, BLACK, SIXTEEN), 16, 2, planar=True, rows_per_strip=64),
        BLACK,
        BROWN,
    ),
    "16-bit grey and alpha": (
        generated.write_tiff(halves(2, 16, (0, 65535), (51400, 65535)), 16, 1, extra=2, rows_per_strip=64),
        BLACK,
        GREY,
    ),
    "a palette of 8 bits in a TIFF": (
        generated.write_tiff(
            halves(1, 8, (0,), (1,)), 8, 3, colours=[*([0, 200] * 128), *([0, 100] * 128), *([0, 50] * 128)]
        ),
        BLACK,
        BROWN,
    ),
    "unsigned 32 bits": (generated.write_tiff(halves(1, 32, (0,), (2**32 - 1,)), 32, 1), BLACK, WHITE),
}


@pytest.mark.parametrize("size", [(64, 64), (16, 16)])
@pytest.mark.parametrize("resizing", ["stretch", Resizing("stretch", "bicubic")], ids=["fast", "exact"])
@pytest.mark.parametrize("name", RIGHT)
def test_colours(name, resizing, size):
    encoded, left, right = RIGHT[name]
    pixels = decoding.decode(encoded, size, resizing).pixels.astype(int)
    middle = size[0] // 2
    for found, expected in ((pixels[middle, size[1] // 4], left), (pixels[middle, -size[1] // 4], right)):
        assert np.abs(found - expected).max() <= 4, (found, expected)  # JPEGs, and 8 bits before a linear profile


def test_what_the_first_frame_of_a_gif_leaves_free_is_white():
    pixels = decoding.decode(golden("gif11_small_topleft_bg0.gif"), (64, 64)).pixels
    assert pixels[16, 16].tolist() == list(BROWN)
    assert (pixels[40:] == 255).all() and (pixels[:, 40:] == 255).all()


WHOLE = golden("j7_base_ok.jpg")


def cut(encoded: bytes, kept: float = 0.5) -> bytes:
    """Returns a JPEG of which so much is kept, closed with EOI."""
    return encoded[: int(len(encoded) * kept)] + b"\xff\xd9"


def again(**options: object) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(WHOLE)) as image:
        image.convert(str(options.pop("mode", "RGB"))).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def zeros_for(encoded: bytes, eoi: bool) -> bytes:
    half = len(encoded) // 2
    return encoded[:half] + bytes(len(encoded) - half - 2 * eoi) + b"\xff\xd9" * eoi


KINDS = {
    "baseline": again(),
    "4:4:4": again(subsampling=0),
    "progressive": again(progressive=True),
    "restart markers": again(restart_marker_blocks=4),
    "progressive with restart markers": again(progressive=True, restart_marker_blocks=4),
    "grey": again(mode="L"),
    "CMYK": again(mode="CMYK"),
    "progressive CMYK": again(mode="CMYK", progressive=True),
    "RGB": again(keep_rgb=True),
}


@pytest.fixture(params=["simplejpeg", "Pillow"])
def library(request, monkeypatch):
    if request.param == "Pillow":
        monkeypatch.setattr(fast_jpeg, "simplejpeg", None)


# In full size, at an eighth, and by Pillow's own resize.
@pytest.mark.parametrize(
    ("size", "resizing"), [((256, 256), "stretch"), ((16, 16), "crop"), ((32, 32), Resizing("crop", "bicubic"))]
)
@pytest.mark.parametrize("name", KINDS)
def test_a_jpeg_without_its_end_is_no_picture(library, name, size, resizing):
    encoded = KINDS[name]
    whole = decoding.decode(encoded, size, resizing).pixels
    # Padding before the end is no damage.
    padded = encoded[:-2] + bytes(400) + encoded[-2:]
    assert np.abs(decoding.decode(padded, size, resizing).pixels.astype(int) - whole).max() <= 1
    for broken in (cut(encoded), cut(encoded, 0.95), zeros_for(encoded, True), zeros_for(encoded, False)):
        with pytest.raises(decoding.CorruptImage):
            decoding.decode(broken, size, resizing)


def test_a_jpeg_with_four_zeros_before_its_end(library):
    assert decoding.decode(golden("k14_zero_padded_before_eoi.jpg"), (32, 32)).pixels.any()


FAILURES = {
    "half of the rows in a complete stream": (half_of_the_rows(), "CorruptImage"),
    "cut within the header": (golden("z6_cut.png"), "CorruptImage"),
    "a camera's raw file": (thumbnail(), "UnsupportedImage"),
    "floating point": (floating_point(), "UnsupportedColour"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_each_broken_file_has_its_error(name):
    encoded, error = FAILURES[name]
    with pytest.raises(decoding.ImageError) as raised:
        decoding.decode(encoded, (16, 16))
    assert type(raised.value).__name__ == error
