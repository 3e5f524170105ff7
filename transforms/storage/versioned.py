"""Describes, reads or opens the listed version of a file, an `ImageRef`, on any filesystem."""

import base64
import dataclasses
import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO

import google_crc32c

from transforms.elements import keys
from transforms.elements.records import ImageRef
from transforms.storage import local, locations, stores
from transforms.storage.context import Storage
from transforms.storage.stores.store import Stored


class ChangedSinceListed(OSError):
    """An object that has changed or disappeared since it was listed. The next run lists it again."""


def described(storage: Storage, ref: ImageRef) -> ImageRef:
    """Returns a ref with version, size and, if the filesystem keeps one, checksum. A ref with a version is unchanged.

    Of a URL there is the version alone, if there is one.

    Raises:
      OSError: if there is no such file, or the request fails.
      ValueError: if the path is invalid.
    """
    if ref.version:
        return ref
    path = keys.uri(ref.key)
    if locations.is_http(path):
        from transforms.storage import https  # libcurl

        return dataclasses.replace(ref, version=https.describe(storage, path))
    if locations.is_local(path):
        version, size = local.described(path)
        return dataclasses.replace(ref, version=version, size=size)
    stored = stores.of(path).described(storage, path)
    return dataclasses.replace(ref, version=stored.version, size=stored.size, crc32c=stored.crc32c)


def ref_of(stored: Stored) -> ImageRef:
    """Returns the ref of a file that a store has listed."""
    return ImageRef(keys.of_uri(stored.path), stored.version, stored.size, stored.crc32c)


def read(storage: Storage, ref: ImageRef, max_bytes: int) -> tuple[bytes, str]:
    """Returns the bytes that were listed, and their checksum.

    Args:
      storage: see `Storage`.
      ref: of the file.
      max_bytes: if the size is unknown, at most this many bytes and one more are read.

    Raises:
      ChangedSinceListed: if they no longer exist.
      OSError: if they cannot be read.
    """
    path = keys.uri(ref.key)
    # A file may have more bytes than its listed size: it grows, or its size means nothing, as in /proc.
    limit = (ref.size if ref.size >= 0 else max_bytes) + 1
    try:
        if locations.is_local(path):
            with local.open_regular(path) as file:
                content = file.read(limit) or b""
        else:
            content = stores.of(path).read(storage, path, ref.version, limit)
    except (FileNotFoundError, local.NotARegularFile) as error:
        raise _gone(ref, error) from error
    checksum = crc32c(content)
    if ref.size >= 0:
        _check(ref, "size", ref.size, len(content) if len(content) < limit else "more")
    if ref.crc32c:
        _check(ref, "crc32c", ref.crc32c, checksum)
    _check_version(ref)
    return content, checksum


def crc32c(content: bytes) -> str:
    """Returns the checksum of bytes in Cloud Storage's format."""
    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()


@contextmanager
def opened(storage: Storage, ref: ImageRef) -> Iterator[BinaryIO]:
    """Yields a file to read from front to end. If it changes meanwhile, the end of the block raises an error.

    A local file ends at its listed size, because a file that grows may have no end.

    Raises:
      ChangedSinceListed: if it has changed since it was listed.
      OSError: if it cannot be read.
    """
    path = keys.uri(ref.key)
    try:
        file: BinaryIO | AbstractContextManager[BinaryIO]
        if locations.is_local(path):
            _check_version(ref)
            file = local.open_regular(path)
            if ref.size >= 0:
                file = io.BufferedReader(_Front(file, ref.size))
        else:
            file = stores.of(path).opened(storage, path, ref.version)
        with file as content:
            yield content
    except (FileNotFoundError, local.NotARegularFile) as error:
        raise _gone(ref, error) from error
    _check_version(ref)


class _Front(io.RawIOBase):
    """The first `size` bytes of a file."""

    def __init__(self, file: BinaryIO, size: int):
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(min(len(buffer), self._left)) or b""
        buffer[: len(content)] = content
        self._left -= len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def _check_version(ref: ImageRef) -> None:
    """Raises ChangedSinceListed if a local file has another version now. Elsewhere this would cost a request."""
    path = keys.uri(ref.key)
    if ref.version and locations.is_local(path):
        try:
            version, _ = local.described(path)
        except (FileNotFoundError, local.NotARegularFile) as error:
            raise _gone(ref, error) from error
        _check(ref, "version", ref.version, version)


def _check(ref: ImageRef, name: str, expected: object, actual: object) -> None:
    if expected != actual:
        raise ChangedSinceListed(f"{keys.uri(ref.key)}: expected {name} {expected} as listed, found {actual}")


def _gone(ref: ImageRef, error: Exception) -> Exception:
    """Returns the error for a file that is gone, or is no longer a file; if it never was one, the error as it is."""
    is_no_file = isinstance(error, local.NotARegularFile)
    if is_no_file and not ref.version:
        return error
    instead = "no regular file" if is_no_file else "nothing"
    return ChangedSinceListed(
        f"{keys.uri(ref.key)}: expected version {ref.version or 'any'} as listed, found {instead}"
    )
