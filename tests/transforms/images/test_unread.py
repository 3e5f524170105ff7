"""transforms.images.unread: what is not read is called by its name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import data_generation as data
from transforms.images import decoding, fast_jpeg, reader, thumbnail, unread
from transforms.images.image_errors import CorruptImage, UnknownFormat, UnsupportedImage

GOLDEN = Path(__file__).parents[2] / "golden" / "images"
JPEG = data.jpeg()
FRAME = JPEG.index(b"\xff\xc0")
SMALL = data.photograph(0, 12, 16)


def frame(marker: int = 0xC0, bits: int = 8, components: int = 3) -> bytes:
    """Returns a JPEG whose frame is of another kind."""
    edited = bytearray(JPEG)
    edited[FRAME + 1], edited[FRAME + 4], edited[FRAME + 9] = marker, bits, components
    return bytes(edited)


UNSUPPORTED = {
    "a lossless JPEG": (frame(0xC3), "lossless"),
    "a hierarchical JPEG": (frame(0xC5), "hierarchical"),
    "an arithmetic lossless JPEG": (frame(0xCB), "arithmetic"),
    "a lossless JPEG behind bytes that are no marker": (JPEG[:2] + b"\xff\0\x40" + frame(0xC3)[2:], "lossless"),
    "JPEG-LS": (frame(0xF7), "JPEG-LS"),
    "a JPEG of 12 bits": (frame(0xC1, bits=12), "3 components of 12 bits, extended"),
    "a JPEG whose height is at its end": (JPEG[: FRAME + 5] + b"\0\0" + JPEG[FRAME + 7 :], "height.*DNL"),
    "a JPEG of two components": (frame(components=2), "2 components of 8 bits"),
    "a BMP of 2 bits": (b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0\1\0\0\0\1\0\0\0\1\0\2\0" + bytes(24), "pixel depth"),
    "an AVIF that libavif does not read": (
        data.encoded(SMALL, "AVIF").replace(b"ispe", b"xxxx"),
        "an AVIF of a kind that libavif does not read",
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_kinds_that_are_not_read(name):
    encoded, message = UNSUPPORTED[name]
    with pytest.raises(UnsupportedImage, match=message):
        decoding.decode(encoded, (8, 8))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"])
def test_what_is_cut_is_corrupt(image_format):
    encoded = data.encoded(SMALL, image_format)
    # So short that another format may begin in the same way.
    shortest = {"WEBP": 13, "AVIF": 13, "JPEG": 3}.get(image_format, 6)
    for kept in range(shortest, len(encoded) * 3 // 4, 3):
        with pytest.raises(CorruptImage):
            decoding.decode(encoded[:kept], (8, 8))


def test_heic_without_its_extra(monkeypatch):
    monkeypatch.setattr(reader, "_OPENED", [name for name in reader._OPENED if name != "HEIF"])
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0\0\0\x08meta\0\0\0\x10mdat" + bytes(8)
    with pytest.raises(UnsupportedImage, match=r"pip install '\.\[heic\]'"):
        decoding.decode(heic, (8, 8))
    for cut in (1, 8, 16, 20, 24):
        assert isinstance(unread.unopened(heic[:-cut], ["jpeg"]), CorruptImage)


def test_a_lossless_jpeg_never_reaches_libjpeg(monkeypatch):
    # libjpeg-turbo 3.1 decodes it, and at a reduced size writes beyond the memory for its pixels.
    monkeypatch.setattr(reader.Image, "open", lambda *args, **kwargs: pytest.fail("it was opened"))
    monkeypatch.setattr(fast_jpeg.simplejpeg, "decode_jpeg", lambda *args, **kwargs: pytest.fail("it was decoded"))
    for encoded in (frame(0xC3), JPEG[:2] + b"\xff\0\x40" + frame(0xC3)[2:]):
        with pytest.raises(UnsupportedImage, match="lossless"):
            decoding.decode(encoded, (8, 8))
        assert thumbnail.of_broken(encoded) == b""


def test_an_arithmetic_jpeg_is_read_and_one_that_is_cut_is_corrupt():
    arithmetic = (GOLDEN / "arithmetic.jpg").read_bytes()
    pixels = decoding.decode(arithmetic, (48, 64)).pixels
    assert np.abs(pixels[24, [16, 48]].astype(int) - [(200, 100, 50), (30, 180, 220)]).max() <= 4
    with pytest.raises(CorruptImage):
        decoding.decode(arithmetic[:-20], (48, 64))


@pytest.mark.parametrize(
    "begin", [b"IIRO", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"\0\0\0\x18ftypcrx ", b"II\x1a\0\0\0HEAPCCDR"]
)
def test_raw_files_of_cameras_that_are_no_tiffs(begin):
    with pytest.raises(UnsupportedImage, match="a camera's raw file"):
        decoding.decode(begin + bytes(100), (8, 8))


@pytest.mark.parametrize(
    "encoded",
    [
        *(b"text", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x18ftypmp42" + bytes(12), b"\xff\xd8", b"II*"),
        b"\0\0\0\x10ftypmp42avif",  # a version, and no brand
        b"\0\0\0\x10ftypmp42" + bytes(4) + b"\0\0\0\x0cfreeavif",  # behind the brands
    ],
)
def test_other_files_are_unknown(encoded):
    error = unread.unopened(encoded, ["jpeg", "png"])
    assert type(error) is UnknownFormat and "expected one of jpeg, png; the object begins with" in str(error)


@pytest.mark.parametrize("brand", ["avif", "avis", "heic", "heix", "heim", "heis", "hevc", "hevx"])
def test_a_broken_file_is_named_by_its_brand(brand):
    """The brand of a file is its first, or one of those that it is compatible with."""
    name = "AVIF" if brand.startswith("av") else "HEIC"
    for brands in (brand, f"mif1\0\0\0\0mif1{brand}"):
        head = b"ftyp" + brands.ljust(8, "\0").encode()
        error = unread.unopened((4 + len(head)).to_bytes(4) + head, ["jpeg"])
        assert type(error) is CorruptImage and str(error) == f"the {name} is cut or broken"


def test_the_length_of_a_box():
    """It may have 8 bytes, behind a 1, or be left out in the last box."""
    head = b"\0\0\0\x10ftypavif" + bytes(4) + b"\0\0\0\x08meta"
    whole = [
        head + b"\0\0\0\1mdat" + (20).to_bytes(8) + bytes(4),
        head + b"\0\0\0\0mdat" + bytes(99),
    ]
    for boxes in whole:
        assert type(unread.unopened(boxes, ["jpeg"])) is UnsupportedImage
    too_short = head + b"\0\0\0\4free\0\0\0\0mdat"  # counts as 8
    assert type(unread.unopened(too_short, ["jpeg"])) is UnsupportedImage
    assert type(unread.unopened(whole[0][:-1], ["jpeg"])) is CorruptImage
    assert type(unread.unopened(head, ["jpeg"])) is CorruptImage  # without pixels


def test_there_is_an_end_to_brands_and_boxes():
    brands = (1000).to_bytes(4) + b"ftypmp42".ljust(496, b"\0") + b"avif".ljust(500, b"\0")
    assert type(unread.unopened(brands, ["jpeg"])) is UnknownFormat
    boxes = b"\0\0\0\x10ftypavif" + bytes(4) + b"\0\0\0\x08free" * 10_000 + b"\0\0\0\x08meta\0\0\0\x08mdat"
    assert type(unread.unopened(boxes, ["jpeg"])) is CorruptImage


def test_segments_are_passed_over():
    lossless, broken = frame(0xC3), OSError("broken")
    assert "lossless" in str(unread.unread(b"\xff\xd8\xff" + lossless[2:], broken))  # a byte that fills up
    assert "lossless" in str(unread.unread(lossless[:FRAME] + b"\xff" + lossless[FRAME:], broken))
    hidden = b"\xff\xe1\x00\x20" + lossless[FRAME : FRAME + 30]
    assert str(unread.unread(JPEG[:2] + hidden + JPEG[2:], broken)) == "OSError: broken"
    assert str(unread.unread(b"\xff\xd8\xff\xd9" + bytes(2), broken)) == "OSError: broken"
    assert "cut within its header" in str(unread.unread(b"\xff\xd8" + bytes(3) + b"\xff", broken))


def test_a_jpeg_that_is_cut_may_reach_pillow():
    assert all(unread.refused(JPEG[:kept]) is None for kept in range(len(JPEG)))


@pytest.mark.parametrize("marker", [0x01, 0xD0, 0xD7])
def test_markers_without_a_length(marker):
    lossless = b"\xff\xd8\xff" + bytes([marker]) + frame(0xC3)[2:]
    assert "lossless" in str(unread.unread(lossless, OSError("broken")))


def test_codings_that_are_read():
    for marker in (0xC0, 0xC1, 0xC2):
        for components in (1, 3, 4):
            encoded = frame(marker, components=components)
            assert str(unread.unread(encoded, OSError("broken"))) == "OSError: broken"


def test_a_bmp_is_cut_within_the_shortest_header():
    assert type(unread.unopened(b"BM" + bytes(23), ["jpeg"])) is CorruptImage
    assert type(unread.unopened(b"BM" + bytes(24), ["jpeg"])) is UnknownFormat


def test_another_codec_in_the_boxes_of_heic_is_no_damage():
    error = unread.unread(b"", RuntimeError("Support for this compression format has not been built in: AV1"))
    assert type(error) is UnsupportedImage and "AV1" in str(error)


def test_an_error_of_pillow_is_quoted():
    assert str(unread.unread(b"GIF8", OSError("broken"))) == "OSError: broken"
    assert type(unread.unread(b"BM", OSError("Unsupported BMP depth"))) is UnsupportedImage
    assert type(unread.unread(JPEG, OSError("broken"))) is CorruptImage
    assert type(unread.unread(frame(0xC3), OSError("broken"))) is UnsupportedImage


def test_a_file_of_nothing_but_markers_takes_no_time():
    for encoded in (b"\xff\xd8" + b"\xff" * 100_000, b"\xff\xd8\xff" + bytes(1 << 20), b"\0\0\0\x08ftypavif" * 100_000):
        assert isinstance(unread.unopened(encoded, ["jpeg"]), (CorruptImage, UnsupportedImage, UnknownFormat))


def test_pillow_opens_no_other_format():
    Image.init()
    with pytest.raises(UnknownFormat):
        decoding.decode(data.encoded(SMALL, "ICO"), (8, 8))
