"""Tells whether the scans of a JPEG make up the whole picture. No decoder reports a missing scan.

A progressive JPEG sends parts of the coefficients, and coarse ones first. Others may send one component after another.
"""

import re
from collections.abc import Iterator

_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
_SCAN, _END = 0xDA, 0xD9
_STANDALONE = (0x00, 0x01, *range(0xD0, 0xD9), 0xFF)

# The end of the data of a scan: a marker that is no stuffed byte, no restart and no padding.
_MARKER = re.compile(b"\xff+[^\x00\xd0-\xd7\xff]")

_COEFFICIENTS = 64

# In place of the number of bits that are missing. There are at most 13.
_NEVER_SENT = 16


def are_complete(encoded: bytes) -> bool:
    """Returns whether all coefficients of all components are sent in full precision. True if that cannot be told.

    The header of a scan (ITU-T T.81, B.2.3) ends with the first and the last of its coefficients, the bits that were
    missing before it, and the bits that a later scan adds. A scan after a missing one adds nothing. If the first scan
    has everything, nothing after it is read.
    """
    missing: dict[int, list[int]] = {}
    is_progressive = False
    try:
        for marker, start in _segments(encoded):
            if marker in (*_SEQUENTIAL, *_PROGRESSIVE):
                is_progressive = marker in _PROGRESSIVE
                components = encoded[start + 6 : start + 6 + 3 * encoded[start + 5] : 3]
                missing = {component: [_NEVER_SENT] * _COEFFICIENTS for component in components}
            elif marker == _SCAN:
                count = encoded[start]
                first, last, bits = encoded[start + 1 + 2 * count : start + 4 + 2 * count]
                if not is_progressive:  # some encoders leave these numbers empty
                    first, last, bits = 0, _COEFFICIENTS - 1, 0
                for component in encoded[start + 1 : start + 1 + 2 * count : 2]:
                    if component in missing and last < _COEFFICIENTS:
                        before = missing[component][first : last + 1]
                        follows = not bits >> 4 or all(number <= bits >> 4 for number in before)
                        missing[component][first : last + 1] = [bits & 15] * len(before) if follows else before
                if not any(map(any, missing.values())):
                    return True
    except (IndexError, ValueError):
        return True
    return not missing


def _segments(encoded: bytes) -> Iterator[tuple[int, int]]:
    """Yields the marker of each segment of the first picture, and where its content begins."""
    at = 2
    while 0 <= (at := encoded.find(b"\xff", at)) < len(encoded) - 4:
        marker = encoded[at + 1]
        if marker == _END:
            return
        if marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        yield marker, at + 4
        at += 2 + max(2, int.from_bytes(encoded[at + 2 : at + 4]))
        if marker == _SCAN:
            following = _MARKER.search(encoded, at)
            if following is None:
                return
            at = following.end() - 2
