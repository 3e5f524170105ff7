"""Files, local or in a cloud, through Beam's filesystems: matching, versions, whole files, publishing by rename."""

import contextlib
import posixpath
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata, FileSystem
from apache_beam.io.filesystems import FileSystems


def match(pattern: str, limit: int | None = None) -> list[FileMetadata]:
    """Returns what a glob matches, at most `limit`; `**` matches across directories.

    Raises:
      OSError: if the place cannot be listed.
    """
    (result,) = FileSystems.match([pattern], [limit])
    found: list[FileMetadata] = result.metadata_list
    return found


def takes_in(pattern: str, path: str) -> bool:
    """Returns whether a glob matches a path."""
    return matcher(pattern)(path)


def matcher(pattern: str) -> Callable[[str], bool]:
    """Returns what says of many paths whether a glob matches them."""
    matches = re.compile(FileSystem.translate_pattern(pattern)).match
    return lambda path: matches(path) is not None


def metadata(path: str) -> FileMetadata:
    """Returns path, size and last change of one file; raises OSError where there is none."""
    return FileSystems.get_filesystem(path).metadata(path)


def version(metadata: FileMetadata) -> str:
    """Returns what tells two contents of one file apart without reading them: size (bytes) and mtime (s)."""
    return f"{metadata.size_in_bytes}-{metadata.last_updated_in_seconds:.6f}"


def read(path: str) -> bytes:
    """Returns a file's bytes as stored; raises OSError."""
    with open_stored(path) as file:
        return file.read()


def write(path: str, content: bytes) -> None:
    """Writes a whole file: under `path` there is the old content or the new, never a part. Raises OSError."""
    with _whole(path) as file:
        file.write(content)


def copy(source: str, path: str) -> None:
    """Copies a file, across filesystems too: under `path` there is the whole of it or none. Raises OSError."""
    with open_stored(source) as content, _whole(path) as file:
        shutil.copyfileobj(content, file, 2**22)


@contextlib.contextmanager
def _whole(path: str) -> Iterator[BinaryIO]:
    """Gives a file to fill beside `path`, and renames it to `path` when the block ends well."""
    directory, name = posixpath.split(path)
    part = posixpath.join(directory, f".{name}.{uuid.uuid4().hex}")
    with create(part) as file:
        yield file
    publish(part, path)


def create(path: str) -> BinaryIO:
    """Opens a file for writing; what is written is stored as it is. Raises OSError."""
    return FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)


def open_stored(path: str) -> BinaryIO:
    """Opens a file for reading, as stored: a name that ends in .gz is not taken for a promise. Raises OSError."""
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def publish(part: str, path: str) -> None:
    """Renames a complete file to its final name; doing it again, as a retried bundle does, changes nothing."""
    try:
        FileSystems.rename([part], [path])
    except BeamIOError:
        if FileSystems.exists(part) or not FileSystems.exists(path):
            raise


def name(part: str, path: str) -> None:
    """Gives a complete file a final name too, whole and in place of what had it; it keeps its own.

    Doing it again changes nothing, even when the first name is gone by then. Raises OSError.
    """
    try:
        if "://" in path:
            FileSystems.copy([part], [path])
        else:
            _link(part, path)
    except (BeamIOError, FileNotFoundError):
        if FileSystems.exists(part) or not FileSystems.exists(path):
            raise


def _link(part: str, path: str) -> None:
    beside = Path(f"{path}.{uuid.uuid4().hex}")
    try:
        beside.hardlink_to(part)
    except FileNotFoundError:
        raise
    except OSError:  # a filesystem without hard links
        copy(part, path)
    else:
        beside.replace(path)
        beside.unlink(missing_ok=True)  # renaming a file to another name that it has does nothing


def remove(directory: str) -> None:
    """Deletes a directory, or what lies under a prefix where there are no directories; nothing there is fine."""
    with contextlib.suppress(BeamIOError):
        FileSystems.delete([f"{directory}/" if "://" in directory else directory])


def remove_file(path: str) -> None:
    """Deletes a file; none there is fine."""
    with contextlib.suppress(BeamIOError):
        FileSystems.delete([path])


def reason(error: Exception) -> str:
    """Returns an error in one line; Beam's carry the reason in a dict of details."""
    details = getattr(error, "exception_details", None)
    cause = next(iter(details.values())) if details else error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
