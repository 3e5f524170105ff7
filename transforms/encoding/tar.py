"""Reads tar files by tarfile, from front to end, in bounded memory and time. A broken file raises an error. No Beam.

tarfile mistakes a header that it cannot read for the end of the file, reads headers of any size into memory, and keeps
the headers of all members.
"""

import struct
import tarfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

# The most bytes of the headers of one member: its long name, PAX headers, and map of a sparse file.
MAX_HEADER_BYTES = 2**20

# Parts of a sparse file. The time of tarfile's search through them is quadratic in their number.
_MAX_SPARSE_PARTS = 1000

_CHUNK_BYTES = 2**20


class TooManyParts(ValueError):
    """A member that is not read. The members after it can be read."""


def members(file: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """Yields each member with a function that returns its content, to be called before the next one is taken.

    Args:
      file: opened for reading, not compressed; it need not be seekable.

    Raises:
      tarfile.TarError: if the file is broken or truncated, or if anything but zeros follows its end.
    """
    source = _Forward(file)
    try:
        with tarfile.open(
            fileobj=source,  # type: ignore[call-overload]
            mode="r:",
            tarinfo=_StrictTarInfo,
            encoding="utf-8",
            errors="surrogateescape",
        ) as shard:
            while member := _next(shard, source):
                shard.members.clear()
                yield member, lambda member=member: _content(shard, source, member)  # type: ignore[misc]
    except (LookupError, ArithmeticError, RecursionError, struct.error) as error:
        raise tarfile.ReadError(f"a header that is none: {type(error).__name__}: {error}") from error
    if source.last_read != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("truncated: expected the empty blocks that end a tar file")
    while rest := file.read(_CHUNK_BYTES):
        if rest.strip(b"\0"):
            raise tarfile.ReadError("data after the end of the tar file: tar files that are joined are not read")


def _next(shard: tarfile.TarFile, source: "_Forward") -> tarfile.TarInfo | None:
    source.allow(MAX_HEADER_BYTES)
    member = shard.next()
    if member and (member.size < 0 or shard.offset < source.tell()):
        raise tarfile.ReadError(f"a header that states {member.size} bytes")
    if sum(len(name) + len(value) for name, value in shard.pax_headers.items()) > MAX_HEADER_BYTES:
        raise tarfile.ReadError(f"global headers of more than {MAX_HEADER_BYTES} bytes")
    return member


def _content(shard: tarfile.TarFile, source: "_Forward", member: tarfile.TarInfo) -> bytes:
    if member.issparse() and len(member.sparse or b"") > _MAX_SPARSE_PARTS:
        raise TooManyParts(f"a sparse file in more than {_MAX_SPARSE_PARTS} parts")
    source.allow(member.size)
    content = shard.extractfile(member)
    return content.read() if content else b""


class _StrictTarInfo(tarfile.TarInfo):
    """A header that raises an error if it is broken. tarfile itself would mistake it for the end of the file."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Any:
        try:
            return super().frombuf(buf, encoding, errors)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"not a tar file, or broken: {error}") from error


class _Forward:
    """A file for tarfile that is only read forwards, and at most an allowed number of bytes into memory.

    Attributes:
      last_read: what the last call of `read` returned.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._position = 0
        self._allowed = MAX_HEADER_BYTES
        self.last_read = b""

    def allow(self, size: int) -> None:
        """Lets `read` return this many bytes, until the next call."""
        self._allowed = size

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        self._allowed -= size
        if size < 0 or self._allowed < 0:
            raise tarfile.ReadError(f"headers of more than {MAX_HEADER_BYTES} bytes before one member")
        self.last_read = self._file.read(size)
        self._position += len(self.last_read)
        return self.last_read

    def seek(self, position: int) -> None:
        if position < self._position:
            raise tarfile.ReadError("a header that leads backwards")
        while self._position < position:
            skipped = len(self._file.read(min(position - self._position, _CHUNK_BYTES)))
            if not skipped:
                raise tarfile.ReadError("unexpected end of data")
            self._position += skipped
