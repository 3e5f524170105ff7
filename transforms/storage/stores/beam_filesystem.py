"""Filesystems that only Beam knows, such as hdfs://. They keep no versions: a version is size and time.

Two processes that write one file in the same instant may both believe that they have won.
"""

import contextlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from typing import BinaryIO

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata, FileSystem
from apache_beam.io.filesystems import FileSystems

from transforms.storage import errors, local, locations
from transforms.storage.context import Storage
from transforms.storage.errors import PreconditionFailed
from transforms.storage.stores.store import Stored

# Scheme of a filesystem that Beam knows → the package of its client, which Beam's own extras install.
_CLIENTS = {"hdfs": "hdfs", "azfs": "azure"}


def check_scheme(path: str) -> None:
    """Raises ValueError for a URI of a filesystem that Beam does not know, or whose client is not installed."""
    scheme = path.partition("://")[0]
    known = {filesystem.scheme() for filesystem in FileSystem.get_all_subclasses()}
    client = _CLIENTS.get(scheme)
    if scheme not in known or (client and not importlib.util.find_spec(client)):
        needed = f"; {scheme}:// needs the package {client}" if client else ""
        hint = ", without file://" if scheme == "file" else ""
        if locations.is_http(path):
            hint = "; URLs of images belong into a list: --input_format list"
        raise ValueError(
            f"{path!r}: expected gs://BUCKET/NAME, s3://BUCKET/NAME, az://CONTAINER/NAME or a local path{hint}{needed}"
        )


def listed(
    storage: Storage, path: str, *, start: str = "", end: str = "", limit: int | None = None
) -> Iterator[Stored]:
    """See `Store`. Wildcards in `path` are Beam's. The names are in no order, and ranges are ignored."""
    with errors.of_clients(path):
        (result,) = FileSystems.match([re.sub(r"\*\*+/", "**", path)], [limit])
    return iter([_stored(metadata) for metadata in result.metadata_list])


def described(storage: Storage, path: str) -> Stored:
    """See `Store`."""
    with errors.of_clients(path):
        try:
            return _stored(FileSystems.get_filesystem(path).metadata(path))
        except BeamIOError as error:
            if error.exception_details is None:  # some of Beam's filesystems report a missing path so
                raise FileNotFoundError(str(error)) from error
            raise


def read(storage: Storage, path: str, version: str, limit: int = sys.maxsize) -> bytes:
    """See `Store`. The version is not compared, because that would be a further request."""
    with opened(storage, path, version) as file:
        return file.read(-1 if limit == sys.maxsize else limit)


def opened(storage: Storage, path: str, version: str) -> BinaryIO:
    """See `Store`."""
    with errors.of_clients(path):
        return errors.reader(FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED), path)


def create(storage: Storage, path: str) -> BinaryIO:
    """See `Store`. A file may be seen before it is closed."""
    with errors.of_clients(path):
        return errors.writer(FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED), path)


def write(storage: Storage, path: str, content: bytes, version: str | None) -> str:
    """See `Store`."""
    _check(storage, path, version)
    with create(storage, path) as file:
        file.write(content)
    return described(storage, path).version


def copy(storage: Storage, source: str, path: str) -> None:
    """See `Store`."""
    with errors.of_clients(path):
        FileSystems.copy([source], [path])


def remove(storage: Storage, path: str, version: str | None = None) -> None:
    """See `Store`."""
    with contextlib.suppress(FileNotFoundError, PreconditionFailed):
        if version:
            _check(storage, path, version)
        with errors.of_clients(path):
            FileSystems.delete([path])


def _check(storage: Storage, path: str, version: str | None) -> None:
    try:
        present = described(storage, path).version
    except FileNotFoundError:
        present = None
    if present != version:
        raise PreconditionFailed(f"{path}: expected version {version}, found {present}")


def _stored(metadata: FileMetadata) -> Stored:
    size, changed = metadata.size_in_bytes, metadata.last_updated_in_seconds
    return Stored(metadata.path, local.version(size, changed), size, changed=changed)
