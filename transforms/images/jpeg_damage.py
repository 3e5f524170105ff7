"""Finds missing or wrong pixels of a JPEG. libjpeg only warns of them, and Pillow ignores the warnings.

In strict mode, simplejpeg stops at libjpeg's first warning and says which it was.
"""

import re

import simplejpeg

from transforms.images import jpeg_header, jpeg_scans, unread

# The warnings of libjpeg (jerror.h) about wrong pixels, and the error that follows one where the data holds an invalid
# marker.
_DAMAGE = re.compile(
    "premature end of data segment|bad Huffman code|Premature end of JPEG file|found marker|bad arithmetic code"
    "|Unsupported marker type"
)
_EXTRANEOUS = re.compile("([0-9]+) extraneous bytes before marker 0x([0-9a-f]{2})")
_END = 0xD9

# The most zero bytes before the unused ones at the end that may belong to the picture.
_MAX_ZEROS = 64


def damage(encoded: bytes) -> str | None:
    """Returns what is wrong with the pixels of a JPEG that Pillow decodes; None if nothing is, or if that is unknown.

    A TIFF may hold kinds of JPEG that only libtiff reads.
    """
    if unread.refused(encoded) is not None:
        return None
    warning = _warning(encoded)
    found = None if warning is None else meaning(encoded, warning)
    return found if found is not None or jpeg_scans.are_complete(encoded) else "the last scans are missing"


def meaning(encoded: bytes, warning: str) -> str | None:
    """Returns what a warning of libjpeg says of the pixels, None if nothing is wrong with them.

    Bytes without a meaning are no damage by themselves: cameras pad their data before the end. But between scans and
    restart markers no encoder pads, so these are what is left of data that was read wrongly. If zeros before the end
    became pixels too, the rest of the picture was never written.
    """
    if _DAMAGE.search(warning):
        return warning
    extraneous = _EXTRANEOUS.search(warning)
    if extraneous is None:
        return None
    count, marker = int(extraneous[1]), int(extraneous[2], 16)
    if marker != _END:
        return warning
    scan = jpeg_header.scan(encoded)
    end = encoded.find(bytes((0xFF, marker)), scan)
    if scan < 0 or end - count < scan:
        return None
    zeros = end - scan - len(encoded[scan:end].rstrip(b"\0"))
    if zeros - count > _MAX_ZEROS:
        return f"{warning}, after {zeros - count} zeros in place of pixels"
    if not jpeg_scans.are_complete(encoded):
        return f"{warning}, in place of the last scans"
    after = _warning(encoded[: end - count] + encoded[end:])  # libjpeg had stopped at the first
    return after if after is not None and _DAMAGE.search(after) else None


def has_rare_sampling(encoded: bytes) -> bool:
    """Returns whether simplejpeg does not read a JPEG's sampling, so that libjpeg's warnings are unknown."""
    try:
        _target(encoded)
    except ValueError as error:
        return "subsampling" in str(error)
    return False


def _target(encoded: bytes) -> str:
    """Returns the name of colours that a JPEG can be decoded to."""
    try:
        *_, colours, _ = simplejpeg.decode_jpeg_header(encoded)
    except KeyError:  # it has no name for 4:4:1
        return "RGB"
    return {"Gray": "GRAY", "YCbCr": "GRAY", "RGB": "RGB"}.get(colours, "CMYK")


def _warning(encoded: bytes) -> str | None:
    try:
        target = _target(encoded)
        simplejpeg.decode_jpeg(encoded, target, True, True, 1, 1, 8, strict=True)
    except ValueError as error:
        return str(error)
    return None
