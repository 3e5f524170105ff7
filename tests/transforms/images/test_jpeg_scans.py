"""transforms.images.jpeg_scans: whether the scans of a JPEG make up the whole picture."""

import itertools

import numpy as np
import pytest

from tests import data_generation as data
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
