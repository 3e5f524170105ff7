"""What becomes of a mutated input so that its reader sees more of it than a broken checksum or broken JSON."""

import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

from transforms.encoding import tfrecord

Repair = Callable[[bytes, random.Random], bytes]

# Values that are easily mistaken for others, as text so that some are no JSON but Python's idea of it.
_VALUES = (
    *("null", "true", "[]", "{}", '""', "0", "-1", "1e400", "-0.0", "NaN", "Infinity", "9" * 400, "9" * 4301),
    *(
        r'"\ud800"',
        r'"\u0000"',
        '"1"',
        "[" * 3000 + "]" * 3000,
        '{"a":' * 3000 + "1" + "}" * 3000,
        "[1, 2]",
        '{"a": 1}',
    ),
)


def png(picture: bytes, _: random.Random) -> bytes:
    """Returns a picture's input with the CRC of each chunk of its PNG computed anew."""
    at, repaired = 2 + 8, bytearray(picture)
    while at + 12 <= len(repaired):
        end = at + 8 + int.from_bytes(repaired[at : at + 4])
        if end + 4 > len(repaired):
            break
        repaired[end : end + 4] = struct.pack(">I", zlib.crc32(repaired[at + 4 : end]))
        at = end + 4
    return bytes(repaired)


def tar(file: bytes, _: random.Random) -> bytes:
    """Returns a tar file's input with the checksum of each header computed anew."""
    at, repaired = 1, bytearray(file)
    while at + 512 <= len(repaired):
        header = repaired[at : at + 512]
        if any(header):
            header[148:156] = b" " * 8
            repaired[at + 148 : at + 156] = b"%06o\0 " % sum(header)
        digits = bytes(header[124:136]).strip(b" \0")
        size = int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else 0
        at += 512 + (size + 511) // 512 * 512
    return bytes(repaired)


def tfrecords(file: bytes, _: random.Random) -> bytes:
    """Returns a TFRecord file's input with both checksums of each record computed anew."""
    at, repaired = 1, file[:1]
    while at + 16 <= len(file):
        size = min(int.from_bytes(file[at : at + 8], "little") & 0xFFFF, len(file) - at - 16)
        repaired += tfrecord.frame(file[at + 12 : at + 12 + size])
        at += 16 + size
    return repaired + file[at:]


def json_values(text: bytes, rng: random.Random) -> bytes:
    """Returns a JSON object with another value in the place of one of its own, or the text if it is none."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return text
    places: list[tuple[Any, str | int]] = []

    def visit(value: object) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                places.append((value, name))
                visit(inner)
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                places.append((value, index))
                visit(inner)

    visit(fields)
    if not places:
        return text
    holder, name = rng.choice(places)
    holder[name] = "replaced here"
    return json.dumps(fields).replace('"replaced here"', rng.choice(_VALUES)).encode()
