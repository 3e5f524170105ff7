"""transforms.images.jpeg_damage: which warnings of libjpeg mean that pixels are missing."""

import pytest

from tests.helpers import data_generation as data
from transforms.images import decoding, jpeg_damage, jpeg_header
from transforms.images.image_errors import CorruptImage

PHOTOGRAPH = data.photograph(1, 200, 280)
MODES = ["L", "RGB", "CMYK"]


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    return data.encoded(PHOTOGRAPH.convert(mode), "JPEG", quality=85, **options)


def with_zeros(encoded: bytes, part: float = 0.5) -> bytes:
    """Returns a JPEG in which zeros have taken the place of the last part of its data."""
    start = jpeg_header.scan(encoded)
    at = start + int((len(encoded) - start) * part)
    return encoded[:at] + bytes(len(encoded) - 2 - at) + encoded[-2:]


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 4}], ids=str
)
@pytest.mark.parametrize("mode", MODES)
def test_good_pictures_and_broken_ones(mode, options):
    # A thumbnail in EXIF has scans and an end of its own.
    for more in ({}, {"exif": b"Exif\0\0" + data.jpeg(2)}):
        good = jpeg(mode, **options, **more)
        assert jpeg_damage.damage(good) is None
        for padding in (1, 4, 20, 400):
            assert jpeg_damage.damage(good[:-2] + bytes(padding) + good[-2:]) is None
            assert jpeg_damage.damage(good[:-2] + b"\x55" * padding + good[-2:]) is None
        assert jpeg_damage.damage(good + bytes(100)) is None
        assert jpeg_damage.damage(good[:-2] + bytes(100)) is not None  # no end
        for part in (0.3, 0.5, 0.8):
            assert jpeg_damage.damage(with_zeros(good, part)) is not None


@pytest.mark.parametrize(
    "warning",
    [
        "Corrupt JPEG data: premature end of data segment",
        "Corrupt JPEG data: bad Huffman code",
        "Premature end of JPEG file",
        "Corrupt JPEG data: found marker 0xd9 instead of RST3",
        "Corrupt JPEG data: bad arithmetic code",
        "Unsupported marker type 0xa4",
        "Corrupt JPEG data: 9 extraneous bytes before marker 0xd3",
        "Corrupt JPEG data: 9 extraneous bytes before marker 0xc4",
        "Corrupt JPEG data: 9 extraneous bytes before marker 0x07",
        *(f"Corrupt JPEG data: 9 extraneous bytes before marker 0xd{number}" for number in (0, 7)),
    ],
)
def test_warnings_that_are_damage(warning):
    assert jpeg_damage.meaning(jpeg(), warning) == warning


@pytest.mark.parametrize(
    "warning",
    [
        "Corrupt JPEG data: 9 extraneous bytes before marker 0xd9",
        "Warning: unknown JFIF revision number 9.99",
        "Unknown Adobe color transform code 7",
        "Inconsistent progression sequence for component 0 coefficient 1",
    ],
)
def test_warnings_that_are_none(warning):
    assert jpeg_damage.meaning(jpeg()[:-2] + b"\x55" * 9 + b"\xff\xd9", warning) is None


def test_some_zeros_may_be_of_the_picture():
    for more, is_damage in ((64, False), (65, True)):
        encoded = jpeg()[:-2] + bytes(9 + more) + b"\xff\xd9"
        found = jpeg_damage.meaning(encoded, "Corrupt JPEG data: 9 extraneous bytes before marker 0xd9")
        assert (found is not None) is is_damage


def test_a_picture_stored_as_rgb():
    good = jpeg(keep_rgb=True)
    assert jpeg_damage.damage(good) is None and jpeg_damage.damage(with_zeros(good)) is not None


def test_what_comes_after_extraneous_bytes_counts():
    # The last intervals are missing. libjpeg first warns of what is in their place.
    whole = jpeg(restart_marker_blocks=4)
    encoded = whole[: whole.rindex(b"\xff\xd3")] + b"\x55" * 500 + b"\xff\xd9"
    assert "extraneous" in jpeg_damage._warning(encoded)
    assert "extraneous" not in jpeg_damage.damage(encoded)


@pytest.mark.parametrize("mode", MODES)
def test_a_hole_in_an_early_scan(mode):
    whole = jpeg(mode, progressive=True)
    end = whole.index(b"\xff\xc4", whole.index(b"\xff\xda", jpeg_header.scan(whole) + 2))
    for hole in (bytes(200), b"\x55" * 200):
        assert jpeg_damage.damage(whole[: end - 200] + hole + whole[end:]) is not None
    # The scans behind it are read. libjpeg says no more than that it has left out some bytes.
    assert "extraneous" in jpeg_damage.damage(whole[:end] + b"\x55" * 200 + whole[end:])


@pytest.mark.parametrize("mode", MODES)
def test_bytes_in_the_data_that_look_like_a_marker(mode):
    for options in ({}, {"progressive": True}):
        whole = jpeg(mode, **options)
        at = jpeg_header.scan(whole) + 60
        broken = whole[:at] + b"\xff\xa4" + whole[at + 2 :]
        assert jpeg_damage.damage(broken) is not None
        with pytest.raises(CorruptImage):
            decoding.decode(broken, (50, 70))


def test_scans_that_are_missing():
    whole = jpeg(progressive=True)
    last = whole.rindex(b"\xff\xda")
    assert jpeg_damage.damage(whole[:last] + b"\xff\xd9") == "the last scans are missing"
    padded = whole[:last] + bytes(40) + b"\xff\xd9"
    assert jpeg_damage.damage(padded).endswith("in place of the last scans")


def test_a_lossless_jpeg_in_a_tiff_is_not_decoded_again(monkeypatch):
    monkeypatch.setattr(jpeg_damage, "_warning", lambda encoded: pytest.fail("it was decoded"))
    assert jpeg_damage.damage(jpeg().replace(b"\xff\xc0", b"\xff\xc3", 1)) is None


def test_no_jpeg_at_all():
    assert jpeg_damage.damage(b"\xff\xd8\xff") is None  # of its header Pillow tells
    assert jpeg_header.scan(b"\xff\xd8\xff\xe0\0\1") == -1
    assert jpeg_header.scan(jpeg()) == jpeg().index(b"\xff\xda")


def test_a_count_that_the_data_cannot_hold_tells_nothing():
    encoded = data.jpeg()
    for count in (len(encoded), len(encoded) + 9):
        assert jpeg_damage.meaning(encoded, f"{count} extraneous bytes before marker 0xd9") is None
