"""What an `ImageRef` names, held to what was listed: described, read or opened on any filesystem."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from apache_beam.io.filesystem import BeamIOError, FileMetadata
from google.api_core.exceptions import NotFound

from transforms.records import ImageRef, uri
from transforms.storage import files, gcs


class ChangedSinceListed(OSError):
    """An object that is gone, or is not the one that was listed: a next run lists it as it then is."""


def described(ref: ImageRef, billing_project: str | None) -> ImageRef:
    """Returns a ref with version, size and, where the filesystem keeps one, checksum; asks only where it has none.

    Raises:
      OSError: if there is no such file; ValueError: if the path is none; the errors of each filesystem's client.
    """
    if ref.version:
        return ref
    path = uri(ref.key)
    if gcs.holds(path):
        stored = gcs.describe(path, billing_project)
        return dataclasses.replace(ref, version=stored.generation, size=stored.size, crc32c=stored.crc32c)
    metadata = _metadata(path)
    return dataclasses.replace(ref, version=files.version(metadata), size=metadata.size_in_bytes)


def read(ref: ImageRef, billing_project: str | None) -> tuple[bytes, str]:
    """Returns the bytes that were listed, and their checksum.

    Raises:
      ChangedSinceListed: if they are not there any more; the errors of each filesystem's client.
    """
    path = uri(ref.key)
    try:
        content = gcs.read(path, ref.version, billing_project) if gcs.holds(path) else files.read(path)
    except FileNotFoundError as error:
        raise _gone(ref) from error
    crc32c = gcs.crc32c(content)
    if ref.size >= 0:
        _check(ref, "size", ref.size, len(content))
    if ref.crc32c:
        _check(ref, "crc32c", ref.crc32c, crc32c)
    _check_version(ref)
    return content, crc32c


@contextmanager
def opened(ref: ImageRef, billing_project: str | None) -> Iterator[BinaryIO]:
    """Gives a file to read from front to end; a change meanwhile is told at the end.

    Raises:
      ChangedSinceListed: if it is not what was listed; the errors of each filesystem's client.
    """
    path = uri(ref.key)
    try:
        if gcs.holds(path):
            file = gcs.open_stored(path, ref.version, billing_project)
        else:
            _check_version(ref)
            file = files.open_stored(path)
        with file:
            yield file
    except (FileNotFoundError, NotFound) as error:
        raise _gone(ref) from error
    _check_version(ref)


def _check_version(ref: ImageRef) -> None:
    """Raises ChangedSinceListed where a local file has another version by now; elsewhere asking costs a request."""
    path = uri(ref.key)
    if ref.version and "://" not in path:
        try:
            version = files.version(_metadata(path))
        except FileNotFoundError as error:
            raise _gone(ref) from error
        _check(ref, "version", ref.version, version)


def _metadata(path: str) -> FileMetadata:
    try:
        return files.metadata(path)
    except BeamIOError as error:  # which has the filesystem's error in a dict, or says that there is no such path
        details = error.exception_details or {path: FileNotFoundError(str(error))}
        raise next(iter(details.values())) from error


def _check(ref: ImageRef, name: str, expected: object, found: object) -> None:
    if expected != found:
        raise ChangedSinceListed(f"{uri(ref.key)}: expected {name} {expected} as listed, found {found}")


def _gone(ref: ImageRef) -> ChangedSinceListed:
    return ChangedSinceListed(f"{uri(ref.key)}: expected version {ref.version or 'any'} as listed, found nothing")
