"""TFRecord framing: a file is a sequence of records, each `length, crc(length), bytes, crc(bytes)`.

The format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details. No TensorFlow, whose
import takes seconds. No Beam.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")


# The most bytes of a record too long that are in memory at once.
_SKIPPED_AT_ONCE = 2**20


class BrokenRecord(ValueError):
    """A record without its bytes. The records after it can be read."""


class BrokenFile(ValueError):
    """A file whose rest cannot be read as records."""


def frame(record: bytes) -> bytes:
    """Returns the bytes of a record in a file."""
    length = _LENGTH.pack(len(record))
    return b"".join((length, _masked_crc(length), record, _masked_crc(record)))


def framed_bytes(record: bytes) -> int:
    """Returns how many bytes of a file a record takes."""
    return _LENGTH.size + _CRC.size + len(record) + _CRC.size


def is_framed(head: bytes) -> bool:
    """Returns whether the front of a file is that of a record. A length may look like the magic number of gzip."""
    length, crc = head[: _LENGTH.size], head[_LENGTH.size : _LENGTH.size + _CRC.size]
    return crc == _masked_crc(length)


def records(file: BinaryIO, max_bytes: int) -> Iterator[bytes | BrokenRecord]:
    """Yields the records of a file opened for reading, in order, and an error in place of each one that is broken.

    A record is broken if its bytes do not match their checksum, or are more than `max_bytes`. The records after it are
    read, because the checksum of its length holds.

    Raises:
      BrokenFile: if no further record can be found, because the file is truncated or a length is broken.
    """
    while head := file.read(_LENGTH.size + _CRC.size):
        length, crc = head[: _LENGTH.size], head[_LENGTH.size :]
        if crc != _masked_crc(length):
            raise BrokenFile("not a TFRecord file, or broken: the checksum of a record's length does not match")
        (size,) = _LENGTH.unpack(length)
        if size > max_bytes:
            _skip(file, size + _CRC.size)
            yield BrokenRecord(f"a record of {size} bytes: expected at most {max_bytes}")
            continue
        record, crc = file.read(size), file.read(_CRC.size)
        if len(record) < size or len(crc) < _CRC.size:
            raise BrokenFile(f"a truncated TFRecord file: it ends within a record of {size} bytes")
        yield (
            record
            if crc == _masked_crc(record)
            else BrokenRecord("a broken TFRecord: the checksum of its bytes does not match")
        )


def read(file: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    """Yields the records of a file opened for reading, in order.

    Raises:
      ValueError: if a record is truncated, longer than `max_bytes`, or does not match its checksum.
    """
    for record in records(file, max_bytes):
        if isinstance(record, BrokenRecord):
            raise record
        yield record


def read_whole(file: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    """Yields the records at the front of a file that may be unfinished, up to the last whole one.

    It stops before the first record that is truncated, broken or longer than `max_bytes`.
    """
    whole = records(file, max_bytes)
    while True:
        try:
            record = next(whole, None)
        except BrokenFile:
            return
        if record is None or isinstance(record, BrokenRecord):
            return
        yield record


def _skip(file: BinaryIO, size: int) -> None:
    while size > 0:
        skipped = len(file.read(min(size, _SKIPPED_AT_ONCE)))
        if not skipped:
            raise BrokenFile("a truncated TFRecord file: it ends within a record")
        size -= skipped


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return _CRC.pack((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
