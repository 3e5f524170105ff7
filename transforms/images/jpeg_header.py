"""Reads the header of a plain JPEG in one pass over its segments, several times as fast as Pillow.

Everything that is not plain is left to Pillow. Where `parse` returns a header, Pillow opens the file without an error,
and reads the same from it.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

# Markers (ITU-T T.81, table B.1). The frames are baseline, extended sequential and progressive, with Huffman codes.
_FRAMES = (0xC0, 0xC1, 0xC2)
_PROGRESSIVE, _SCAN, _QUANTIZATION = 0xC2, 0xDA, 0xDB
_APP0, _APP1, _APP2, _APP13, _APP14 = 0xE0, 0xE1, 0xE2, 0xED, 0xEE
# Huffman tables, the restart interval and comments, which Pillow skips, and the segments of applications.
_OTHERS = frozenset((0xC4, 0xDD, 0xFE, *range(0xE0, 0xF0)))

# The first bytes of the segments of applications that Pillow reads.
_JFIF, _EXIF, _XMP, _ICC, _MPF = b"JFIF", b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"MPF\0"
_PHOTOSHOP, _RESOURCE, _ADOBE = b"Photoshop 3.0\0", b"8BIM", b"Adobe"

# The lengths of complete segments: JFIF without a thumbnail, Adobe, and a frame of three components.
_JFIF_LENGTH, _ADOBE_LENGTH, _FRAME_LENGTH = 16, 14, 17

# Bytes of a quantization table of 8 bits, with the byte that numbers it.
_TABLE_BYTES = 65

# The bytes of one value of the TIFF types 1 to 13.
_UNITS = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)
_SHORT, _RATIONAL = 3, 5

# The tags of EXIF that Pillow looks at, orientation and resolution → the type of their one value.
_ORIENTATION = 0x0112
_TYPES = {_ORIENTATION: _SHORT, 0x011A: _RATIONAL, 0x0128: _SHORT}

_unpack_segment = struct.Struct(">BBH").unpack_from
_unpack_frame = struct.Struct(">BHHBxBxxBxxBx").unpack_from


class Header(NamedTuple):
    """The header of a JPEG with three components of 8 bits.

    Attributes:
      size: (width, height) as stored, in pixels.
      orientation: the EXIF orientation, 1 if there is none.
      icc_profile: the bytes of the colour profile, if there is one.
      samplings: (across, down) of each component, its samples in one unit of the picture.
      is_one_scan: whether the JPEG is sequential, with all components in one scan.
    """

    size: tuple[int, int]
    orientation: int
    icc_profile: bytes | None
    samplings: Sequence[tuple[int, int]]
    is_one_scan: bool


class _NotPlain(Exception):
    """A header that is left to Pillow."""


def parse(encoded: bytes) -> Header | None:
    """Returns the header of a plain JPEG, and None for any other file.

    A JPEG is not plain if it has other than three components of 8 bits, a coding other than Huffman's, further pictures
    behind the first (MPO), an orientation only in XMP, bytes between the segments, or broken or contradictory segments.
    """
    try:
        return _parse(encoded)
    except (_NotPlain, IndexError, struct.error):  # the latter where the file ends
        return None


def _parse(encoded: bytes) -> Header:
    if not encoded.startswith(b"\xff\xd8"):
        raise _NotPlain
    end = 2
    frame = 0  # where the frame's segment begins
    frame_marker = 0
    exif: bytes | None = None
    is_turned_by_xmp = False
    profile: list[bytes] = []
    while True:
        prefix, marker, length = _unpack_segment(encoded, end)
        start, end = end + 4, end + 2 + length
        if prefix != 0xFF or end > len(encoded):  # a length below 2 leads back to itself, not to a marker
            raise _NotPlain
        if marker == _QUANTIZATION:
            numbers = encoded[start:end:_TABLE_BYTES]
            if (length - 2) % _TABLE_BYTES or (numbers and max(numbers) > 3):
                raise _NotPlain
        elif marker in _FRAMES:
            if frame or length != _FRAME_LENGTH:
                raise _NotPlain
            frame, frame_marker = start, marker
        elif marker == _SCAN:
            break
        elif marker not in _OTHERS:
            raise _NotPlain
        elif marker == _APP0:
            if length < _JFIF_LENGTH and encoded.startswith(_JFIF, start):
                raise _NotPlain
        elif marker == _APP1:
            block = encoded[start:end]
            if block.startswith(_EXIF):
                if exif is not None:
                    raise _NotPlain
                exif = block[len(_EXIF) :]
            elif block.startswith(_XMP) and b"tiff:Orientation" in block:
                is_turned_by_xmp = True
        elif marker == _APP2:
            block = encoded[start:end]
            if block.startswith(_MPF) or (frame and block.startswith(_ICC)):
                raise _NotPlain
            if block.startswith(_ICC):
                profile.append(block)
        elif marker == _APP13:
            _check_photoshop(encoded[start:end])
        elif marker == _APP14 and length < _ADOBE_LENGTH and encoded.startswith(_ADOBE, start):
            raise _NotPlain
    components = encoded[start]
    if not frame or not 1 <= components <= 3 or length != 6 + 2 * components:
        raise _NotPlain
    size, samplings = _frame(encoded, frame)
    orientation = 0 if exif is None else _orientation(exif)
    if not orientation and is_turned_by_xmp:
        raise _NotPlain
    is_one_scan = components == 3 and frame_marker != _PROGRESSIVE
    return Header(size, orientation or 1, _profile(profile), samplings, is_one_scan)


def scan(encoded: bytes) -> int:
    """Returns where the first scan of a JPEG begins, with its marker; -1 if the segments before it are broken."""
    at = 2
    while at + 4 <= len(encoded):
        prefix, marker, length = _unpack_segment(encoded, at)
        if prefix != 0xFF:
            break
        if marker == _SCAN:
            return at
        at += 2 + length
    return -1


def profile_of(parts: Sequence[bytes]) -> bytes | None:
    """Returns the colour profile of the segments that hold its parts, None if one is missing or wrong."""
    try:
        return _profile(list(parts))
    except _NotPlain:
        return None


def _frame(encoded: bytes, start: int) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """Returns (width, height), and (across, down) for each component."""
    bits, height, width, layers, *components = _unpack_frame(encoded, start)
    samplings = [(sampling >> 4, sampling & 15) for sampling in components]
    plain = all(1 <= across <= 4 and 1 <= down <= 4 for across, down in samplings)
    if bits != 8 or layers != 3 or not width or not height or not plain:
        raise _NotPlain
    return (width, height), samplings


def _orientation(exif: bytes) -> int:
    """Returns the orientation in the first directory of an EXIF block, 0 if there is none (EXIF 2.32, TIFF 6.0)."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        raise _NotPlain
    (at,) = struct.unpack_from(order + "L", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, at)
    end = at + 2 + 12 * count
    if end + 4 > len(exif):  # the position of the next directory follows the entries
        raise _NotPlain
    orientation = bytes_ = 0
    for tag, kind, values, offset in struct.iter_unpack(order + "HHLL", exif[at + 2 : end]):
        size = values * _UNITS[kind]
        if not size or (size > 4 and offset + size > len(exif)):
            raise _NotPlain
        bytes_ += size
        if tag in _TYPES:
            if (kind, values) != (_TYPES[tag], 1) or (tag == _ORIENTATION and orientation):
                raise _NotPlain
            if tag == _ORIENTATION:
                orientation = offset & 0xFFFF if order == "<" else offset >> 16
    if bytes_ > len(exif):  # entries that share their data: see bounds.py
        raise _NotPlain
    return orientation


def _profile(parts: list[bytes]) -> bytes | None:
    """Joins the parts of a colour profile. Each has its number, from 1, and their count after the name (ICC.1, B.4)."""
    if not parts:
        return None
    parts.sort()
    at = len(_ICC)
    if any(part[at : at + 2] != bytes((number, len(parts))) for number, part in enumerate(parts, 1)):
        raise _NotPlain
    return b"".join(part[at + 2 :] for part in parts)


def _check_photoshop(block: bytes) -> None:
    """Raises _NotPlain if a resource is incomplete: a code, a name after its length, and content after its length."""
    if not block.startswith(_PHOTOSHOP):
        return
    at = len(_PHOTOSHOP)
    while block.startswith(_RESOURCE, at):
        at += 7 + block[at + 6]
        at += at & 1
        (size,) = struct.unpack_from(">L", block, at)
        at += 4 + size
        if at > len(block):
            raise _NotPlain
        at += at & 1
