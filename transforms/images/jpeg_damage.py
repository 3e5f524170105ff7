"""Whether pixels of a JPEG are missing or wrong, which libjpeg only warns of and Pillow does not hear.

simplejpeg, asked to be strict, stops at libjpeg's first warning and says which it was.
"""

import re

import simplejpeg

from transforms.images import jpeg_header

# The warnings of libjpeg (jerror.h) that say that pixels are not those of the picture.
_DAMAGE = re.compile(
    "premature end of data segment|bad Huffman code|Premature end of JPEG file|found marker|corrupt arithmetic code"
)
_EXTRANEOUS = re.compile("([0-9]+) extraneous bytes before marker 0x([0-9a-f]{2})")
_SCAN, _END = b"\xff\xda", 0xD9
_RESTARTS = range(0xD0, 0xD8)

# The most zero bytes at the end of the data that may be of the picture if further ones are not.
_MAX_ZEROS = 64


def damage(encoded: bytes) -> str | None:
    """Returns what is wrong with the pixels of a JPEG that Pillow decodes, None if nothing is."""
    warning = _warning(encoded)
    return None if warning is None else meaning(encoded, warning)


def meaning(encoded: bytes, warning: str) -> str | None:
    """Returns what a warning of libjpeg says of the pixels, None if nothing is wrong with them.

    Bytes without a meaning are no damage by themselves: cameras pad their data before the end. But between restart
    markers no encoder pads. If zeros before them became pixels too, the rest of the picture was never written.
    """
    if _DAMAGE.search(warning):
        return warning
    extraneous = _EXTRANEOUS.search(warning)
    if extraneous is None:
        return None
    count, marker = int(extraneous[1]), int(extraneous[2], 16)
    if marker in _RESTARTS:
        return warning
    scan = jpeg_header.scan(encoded)
    end = encoded.find(bytes((0xFF, marker)), scan)
    if marker != _END or scan < 0 or end - count < scan:
        return None
    zeros = end - scan - len(encoded[scan:end].rstrip(b"\0"))
    if zeros - count > _MAX_ZEROS:
        return f"{warning}, after {zeros - count} zeros in place of pixels"
    if not _has_all_scans(encoded[:end], scan):
        return f"{warning}, in place of the last scans"
    after = _warning(encoded[: end - count] + encoded[end:])  # libjpeg had stopped at the first
    return after if after is not None and _DAMAGE.search(after) else None


def _has_all_scans(encoded: bytes, first: int) -> bool:
    """Returns whether the scans of a JPEG give all coefficients of its components in full precision.

    The header of a scan (ITU-T T.81, B.2.3) ends with the first and the last of its coefficients, and with the bits
    that a later scan adds to them.
    """
    missing: dict[int, list[int]] = {}
    at = first
    while at >= 0:
        count = encoded[at + 4]
        start, last, bits = encoded[at + 5 + 2 * count : at + 8 + 2 * count]
        for component in encoded[at + 5 : at + 5 + 2 * count : 2]:
            of_component = missing.setdefault(component, [1] * 64)
            of_component[start : last + 1] = [bits & 15] * (last + 1 - start)
        at = encoded.find(_SCAN, at + 2)
    return not any(any(of_component) for of_component in missing.values())


def _warning(encoded: bytes) -> str | None:
    try:
        *_, colours, _ = simplejpeg.decode_jpeg_header(encoded)
        target = {"Gray": "GRAY", "YCbCr": "GRAY", "RGB": "RGB"}.get(colours, "CMYK")
        simplejpeg.decode_jpeg(encoded, target, True, True, 1, 1, 8, strict=True)
    except ValueError as error:
        return str(error)
    return None
