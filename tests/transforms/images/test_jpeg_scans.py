"""transforms.images.jpeg_scans: whether the scans of a JPEG make up the whole picture."""

import itertools

import numpy as np
import pytest

from tests.helpers import data_generation as data
from transforms.images import decoding, jpeg_header, jpeg_scans
from transforms.images.image_errors import CorruptImage

PHOTOGRAPH = data.photograph(1, 96, 128)


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    return data.encoded(PHOTOGRAPH.convert(mode), "JPEG", quality=85, **options)


def scans(encoded: bytes) -> list[int]:
    """Returns where the scans begin, with the tables of codes before them."""
    found, at = [], jpeg_header.scan(encoded)
    while (at := encoded.find(b"\xff\xda", at + 2)) >= 0:
        table = encoded.rfind(b"\xff\xc4", 0, at)
        has_table = table > 0 and table + 2 + int.from_bytes(encoded[table + 2 : table + 4]) == at
        found.append(table if has_table else at)
    return found


def one_component_after_the_other(encoded: bytes) -> bytes:
    """Returns a sequential JPEG of which the scan is said to have the first component alone."""
    start = jpeg_header.scan(encoded)
    header = b"\xff\xda\0\x08\x01" + encoded[start + 5 : start + 7] + b"\0\x3f\0"
    return encoded[:start] + header + encoded[start + 14 :]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_progressive_jpeg_that_ends_between_two_scans_is_no_picture(mode):
    whole = jpeg(mode, progressive=True)
    assert jpeg_scans.are_complete(whole)
    assert np.asarray(decoding.decode(whole, (24, 32)).pixels).any()
    assert len(scans(whole)) > 4
    for at in scans(whole):
        cut = whole[:at] + b"\xff\xd9"
        assert not jpeg_scans.are_complete(cut)
        assert not jpeg_scans.are_complete(cut + whole)  # a second picture behind the first
        for size in ((24, 32), (96, 128)):
            with pytest.raises(CorruptImage, match="the last scans are missing"):
                decoding.decode(cut, size)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_scan_that_is_missing_between_others(mode):
    whole = jpeg(mode, progressive=True)
    starts = [*scans(whole), len(whole) - 2]
    for start, end in itertools.pairwise(starts):
        without = whole[:start] + whole[end:]
        assert not jpeg_scans.are_complete(without)
        for size in ((24, 32), (96, 128)):
            with pytest.raises(CorruptImage):
                decoding.decode(without, size)


def test_components_that_never_came():
    whole = jpeg(subsampling=0)
    assert jpeg_scans.are_complete(whole)
    first = one_component_after_the_other(whole)
    assert not jpeg_scans.are_complete(first)
    start = jpeg_header.scan(first)
    others = [first[start:-2].replace(b"\xda\0\x08\x01\x01", b"\xda\0\x08\x01" + bytes((n,)), 1) for n in (2, 3)]
    assert jpeg_scans.are_complete(first[:-2] + others[0] + others[1] + b"\xff\xd9")
    assert not jpeg_scans.are_complete(first[:-2] + others[0] + b"\xff\xd9")


def test_what_is_not_read():
    sequential = jpeg()
    start = jpeg_header.scan(sequential)
    # Numbers that mean nothing where all coefficients come at once.
    assert jpeg_scans.are_complete(sequential[: start + 11] + bytes(3) + sequential[start + 14 :])
    assert not jpeg_scans.are_complete(sequential[:start] + b"\xff\xd9" + bytes(9))
    padded = sequential[:2] + b"\xff\xff\xff\x01junk" + sequential[2:]
    assert jpeg_scans.are_complete(padded)


@pytest.mark.parametrize("encoded", [b"\xff\xd8", b"\xff\xd8\xff\xda\0\x08", b"\xff\xd8\xff\xc0\0\x11\x08"])
def test_a_broken_header_tells_nothing(encoded):
    assert jpeg_scans.are_complete(encoded)


def made(coding: int, *scans: tuple[bytes, int, int, int], fill: bytes = b"") -> bytes:
    """Returns the segments of a JPEG of the components 1 and 2: components, first, last and bits of each scan."""
    frame = b"\xff" + bytes((coding, 0, 14, 8, 0, 8, 0, 8, 2, 1, 0x11, 0, 2, 0x11, 0))
    encoded = b"\xff\xd8" + fill + frame
    for components, *numbers in scans:
        named = b"".join(bytes((component, 0)) for component in components)
        encoded += b"\xff\xda\0" + bytes((6 + len(named), len(components))) + named + bytes(numbers)
        encoded += b"\x12\xff\0\x34\xff\xd0\x56"  # with an escape and a restart
    return encoded + b"\xff\xd9"


@pytest.mark.parametrize("coding", [0xC0, 0xC1, 0xC9])
def test_sequential_codings(coding):
    one, other = (b"\1", 0, 63, 0), (b"\2", 0, 63, 0)
    assert jpeg_scans.are_complete(made(coding, one, other)) and not jpeg_scans.are_complete(made(coding, one))


@pytest.mark.parametrize("coding", [0xC2, 0xCA])
def test_progressive_codings(coding):
    coarse, fine = [(b"\1\2", 0, 63, 0x01), (b"\1\2", 0, 63, 0x10)]
    assert jpeg_scans.are_complete(made(coding, coarse, fine)) and not jpeg_scans.are_complete(made(coding, coarse))
    lacks_last = (b"\1\2", 0, 62, 0)
    assert not jpeg_scans.are_complete(made(coding, lacks_last))
    assert jpeg_scans.are_complete(made(coding, lacks_last, (b"\1\2", 63, 63, 0)))


def test_scans_of_nothing_that_there_is():
    assert not jpeg_scans.are_complete(made(0xC2, (b"\1\2", 0, 200, 0)))
    assert not jpeg_scans.are_complete(made(0xC2, (b"\1\x09", 0, 63, 0)))


def test_a_byte_that_fills_up_hides_no_frame():
    assert not jpeg_scans.are_complete(made(0xC2, (b"\1", 0, 63, 0), fill=b"\xff"))


def test_a_file_may_be_cut_anywhere():
    whole = made(0xC2, (b"\1", 0, 63, 1), (b"\1", 0, 63, 0x10))
    assert {jpeg_scans.are_complete(whole[:kept]) for kept in range(len(whole))} == {True, False}
