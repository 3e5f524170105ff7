"""TFRecord framing: a file is a sequence of records, each `length, crc(length), bytes, crc(bytes)`.

The format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details. No TensorFlow, whose
import takes seconds. No Beam.
"""

import contextlib
import struct
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")


def frame(record: bytes) -> bytes:
    """Returns the bytes of a record in a file."""
    length = _LENGTH.pack(len(record))
    return b"".join((length, _masked_crc(length), record, _masked_crc(record)))


def framed_bytes(record: bytes) -> int:
    """Returns how many bytes of a file a record takes."""
    return _LENGTH.size + _CRC.size + len(record) + _CRC.size


def read(file: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    """Yields the records of a file opened for reading, in order.

    Raises:
      ValueError: if a record is truncated, longer than `max_bytes`, or does not match its checksum.
    """
    while head := file.read(_LENGTH.size + _CRC.size):
        length, crc = head[: _LENGTH.size], head[_LENGTH.size :]
        if crc != _masked_crc(length):
            raise ValueError("not a TFRecord file, or broken: the checksum of a record's length does not match")
        (size,) = _LENGTH.unpack(length)
        if size > max_bytes:
            raise ValueError(f"a record of {size} bytes: expected at most {max_bytes}")
        record, crc = file.read(size), file.read(_CRC.size)
        if len(record) < size or crc != _masked_crc(record):
            raise ValueError("a truncated or broken TFRecord: the checksum of its bytes does not match")
        yield record


def read_whole(file: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    """Yields the records of a file that may be cut off, in order, up to the last one that is whole."""
    with contextlib.suppress(ValueError):
        yield from read(file, max_bytes)


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return _CRC.pack((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
