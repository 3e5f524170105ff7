"""Compressed files as the streams of bytes that they expand to, checked and in bounded memory. No Beam."""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol, cast

# Images hardly shrink when they are compressed. A file that expands to more than this many bytes, and to more than this
# many times its size, was crafted to keep a worker busy.
FREE_BYTES = 2**30
MAX_RATIO = 100

# `xz -9` needs 65 MiB to expand. The format allows 4 GiB.
_XZ_MEMORY = 256 * 2**20

_CHUNK_BYTES = 2**16

_GZIP = b"\x1f\x8b\x08"
_XZ = (b"\xfd7zXZ\0", b"\x5d\0\0\x80")  # .xz, and .lzma as `xz --format=lzma` writes it


class BrokenStream(ValueError):
    """A compressed file that is broken, truncated, or expands beyond all bounds."""


class _Decompressor(Protocol):
    """What the decompressors of bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def expanded(file: BinaryIO, is_plain: Callable[[bytes], bool] = lambda head: False) -> BinaryIO:
    """Returns a reader of a file, expanded if its first bytes are those of gzip, zlib, bzip2 or xz.

    Reading raises BrokenStream where the compressed bytes are broken.

    Args:
      file: opened for reading.
      is_plain: whether a file that begins like a compressed one is not compressed. Its argument is the file's front.
    """
    reader = io.BufferedReader(cast(Any, file), _CHUNK_BYTES)
    head = reader.peek(16)[:16]
    new = None if is_plain(head) else _decompressor(head)
    return io.BufferedReader(_Expanded(reader, new), _CHUNK_BYTES) if new else reader


def _decompressor(head: bytes) -> Callable[[], _Decompressor] | None:
    if head.startswith(_GZIP) or _is_zlib(head):
        return _Zlib
    if head.startswith(b"BZh") and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):  # a block, or the end without any block
        return bz2.BZ2Decompressor
    if head.startswith(_XZ):
        return lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
    return None


def _is_zlib(head: bytes) -> bool:
    """Returns whether a file begins as RFC 1950 says, with the window of 32 KiB that all compressors use."""
    return len(head) > 1 and head[0] == 0x78 and (head[0] << 8 | head[1]) % 31 == 0 and not head[1] & 0x20


class _Zlib:
    """The decompressor of zlib, for gzip too, with the interface of those of bz2 and lzma."""

    def __init__(self) -> None:
        self._object = zlib.decompressobj(zlib.MAX_WBITS | 32)

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, max_length)


class _Expanded(io.RawIOBase):
    """The bytes that one or several compressed streams, one after the other, expand to."""

    def __init__(self, file: BinaryIO, new: Callable[[], _Decompressor]):
        self._file = file
        self._new = new
        self._decompressor = new()
        self._read = self._written = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            data = b""
            if self._decompressor.eof:
                data = self._next_stream()
                if not data:
                    return 0
                self._decompressor = self._new()
            elif self._decompressor.needs_input:
                data = self._more()
            at_end = not data and self._decompressor.needs_input
            try:
                content = self._decompressor.decompress(data, len(buffer))
            except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
                raise BrokenStream(f"broken compressed data: {error}") from error
            if content:
                buffer[: len(content)] = content
                self._check_ratio(len(content))
                return len(content)
            if at_end and not self._decompressor.eof:
                raise BrokenStream("truncated compressed data: it ends before the end of the stream")

    def _more(self) -> bytes:
        data = self._file.read(_CHUNK_BYTES)
        self._read += len(data)
        return data

    def _next_stream(self) -> bytes:
        """Returns the front of the next stream, after any zeros that pad a block; b"" if there is none."""
        data = self._decompressor.unused_data
        while not (stripped := data.lstrip(b"\0")):
            data = self._more()
            if not data:
                return b""
        return stripped

    def _check_ratio(self, written: int) -> None:
        self._written += written
        if self._written > FREE_BYTES and self._written > MAX_RATIO * self._read:
            raise BrokenStream(f"expands to more than {MAX_RATIO} times its size, {self._written} bytes so far")
