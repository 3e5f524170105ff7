"""Files, local or in cloud storage, through Beam's filesystems: globs, versions, whole files, publishing by rename."""

import contextlib
import importlib.util
import logging
import os
import posixpath
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata, FileSystem
from apache_beam.io.filesystems import FileSystems

from transforms import storage
from transforms.one_line import one_line
from transforms.storage import local, locations

# Removing an object is two requests of some 50 ms.
_AT_ONCE = 32

# Scheme of a filesystem that Beam knows → the package of its client, which Beam's own extras install.
_CLIENTS = {"s3": "boto3", "hdfs": "hdfs", "azfs": "azure"}


def match(pattern: str, limit: int | None = None) -> list[FileMetadata]:
    """Returns the files that a glob matches, at most `limit`; `**` matches across directories.

    Raises:
      OSError: if the files cannot be listed.
      ValueError: see `check_location`.
    """
    check_location(pattern)
    (result,) = FileSystems.match([pattern], [limit])
    matching: list[FileMetadata] = result.metadata_list
    return matching


def check_location(path: str) -> None:
    """Raises ValueError for a URI of a filesystem that Beam does not know, or whose client is not installed."""
    if locations.is_local(path) or locations.is_gcs(path):
        return
    scheme = path.partition("://")[0]
    known = {filesystem.scheme() for filesystem in FileSystem.get_all_subclasses()}
    client = _CLIENTS.get(scheme)
    if scheme not in known or (client and not importlib.util.find_spec(client)):
        needed = f"; {scheme}:// needs the package {client}" if client else ""
        hint = ", without file://" if scheme == "file" else ""
        raise ValueError(f"{path!r}: expected gs://BUCKET/NAME or a local path{hint}{needed}")


def takes_in(pattern: str, path: str) -> bool:
    """Returns whether a glob matches a path, or is its name."""
    return path == pattern or matcher(pattern)(path)


def matcher(pattern: str) -> Callable[[str], bool]:
    """Returns a function that tells whether a glob matches a path, compiled once for many paths."""
    literal = literal_prefix(pattern) if locations.is_local(pattern) else ""
    # Python warns that `[[` may come to mean something else.
    translated = FileSystem.translate_pattern(pattern.removeprefix(literal)).replace("[[]", r"\[")
    matches = re.compile(translated).match
    return lambda path: path.startswith(literal) and matches(path, len(literal)) is not None


def literal_prefix(pattern: str) -> str:
    """Returns the front of a local pattern that has no wildcards: whole names, each with the slashes after it.

    Brackets in a name are no wildcards if a file or directory of exactly this name exists.
    """
    literal = ""
    for name in re.findall("[^/]*/*", pattern):
        if "*" in name or "?" in name or ("[" in name and not os.path.lexists(literal + name)):
            break
        literal += name
    return literal


def metadata(path: str) -> FileMetadata:
    """Returns path, size and time of the last change of one file.

    Raises:
      OSError: if there is none.
      NotARegularFile: if something else is in its place.
      ValueError: see `check_location`.
    """
    if locations.is_local(path):
        status = local.status(path)
        return FileMetadata(path, status.st_size, status.st_mtime)
    check_location(path)
    return FileSystems.get_filesystem(path).metadata(path)


def described(path: str) -> tuple[str, int]:
    """Returns the version and the size of one file.

    Raises:
      OSError: if there is none. If the request fails, the errors of the filesystem's client.
    """
    try:
        of_file = metadata(path)
    except BeamIOError as error:  # it has the filesystem's error in a dict, or no details if there is no such path
        details = error.exception_details or {path: FileNotFoundError(str(error))}
        raise next(iter(details.values())) from error
    return version(of_file), of_file.size_in_bytes


def version(metadata: FileMetadata) -> str:
    """Returns size (bytes) and mtime (s), which tell two contents of one file apart without reading them."""
    return local.version(metadata.size_in_bytes, metadata.last_updated_in_seconds)


def read(path: str) -> bytes:
    """Returns a file's bytes as stored; raises OSError."""
    with open_stored(path) as file:
        return file.read()


def write(path: str, content: bytes, check: Callable[[], object] | None = None) -> None:
    """Writes a whole file. `path` always holds the old content or the new, never a part. Raises OSError.

    Args:
      path: of the file.
      content: its new bytes.
      check: called when the new content lies beside `path`, before it gets that name. If it raises an error, `path`
        stays as it is. `path` stays too if `remove_pending` is called before the content gets the name.
    """
    with _whole(path, check) as file:
        file.write(content)


def copy(source: str, path: str) -> None:
    """Copies a file, also between filesystems. `path` never holds a part of it. Raises OSError."""
    with open_stored(source) as content, _whole(path) as file:
        shutil.copyfileobj(content, file, 2**22)


@contextlib.contextmanager
def _whole(path: str, check: Callable[[], object] | None = None) -> Iterator[BinaryIO]:
    """Yields a file beside `path` to fill, and renames it to `path` if the block raises no error."""
    check_location(path)
    part = _beside(path)
    try:
        with create(part) as file:
            yield file
        if check:
            check()
            try:
                rename(part, path)
            except OSError:
                check()  # which says more, if the part is gone because it has failed by now
                raise
        else:
            publish(part, path)
    except BaseException:
        remove_file(part)
        raise


def _beside(path: str) -> str:
    """Returns a new name beside a file, which no pattern without a leading dot matches."""
    directory, name = posixpath.split(path)
    return posixpath.join(directory, f".{name}.{uuid.uuid4().hex}")


def rename(part: str, path: str) -> None:
    """Renames a file. Raises OSError if it is gone, even if `path` exists."""
    if locations.is_gcs(path):
        storage.gcs.copy(part, path)
        storage.gcs.remove(part, None)
    elif locations.is_local(path):
        Path(part).replace(path)
    else:
        FileSystems.rename([part], [path])


def remove_pending(pattern: str) -> None:
    """Removes what lies beside files and has not got their names yet, so that it never gets them.

    Args:
      pattern: a path of such files, with wildcards in the name alone.
    """
    directory, name = posixpath.split(pattern)
    beside = [file.path for file in match(f"{directory}/.{name}.*")]
    remove_files([path for path in beside if is_unfinished(posixpath.basename(path), "")])


def is_unfinished(name: str, suffix: str) -> bool:
    """Returns whether a name is that of a file beside one with this suffix, which `write` or `copy` has to fill."""
    return re.fullmatch(rf"\..*{re.escape(suffix)}\.[0-9a-f]{{32}}", name, re.DOTALL) is not None


def create(path: str) -> BinaryIO:
    """Opens a file for writing, without compression whatever its name. Raises OSError; ValueError: `check_location`."""
    check_location(path)
    return FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)


def open_stored(path: str) -> BinaryIO:
    """Opens a file for reading, as stored: a file is not decompressed even if its name ends in .gz.

    Raises:
      OSError: if it cannot be opened.
      NotARegularFile: if something else is in its place. A pipe or a device would be read without end.
      ValueError: see `check_location`.
    """
    if locations.is_local(path):
        return local.open_regular(path)
    check_location(path)
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def publish(part: str, path: str) -> None:
    """Renames a complete file to its final name. Repeating this, as a retried bundle does, changes nothing."""
    try:
        FileSystems.rename([part], [path])
    except BeamIOError:
        if FileSystems.exists(part) or not FileSystems.exists(path):
            raise


def name(part: str, path: str) -> None:
    """Gives a complete file a second, final name. It appears whole, replaces any file of that name, and `part` stays.

    Repeating this changes nothing, even if `part` was removed in between. Raises OSError.
    """
    try:
        if locations.is_local(path):
            _link(part, path)
        else:
            FileSystems.copy([part], [path])
    except (BeamIOError, FileNotFoundError):
        if FileSystems.exists(part) or not FileSystems.exists(path):
            raise


def _link(part: str, path: str) -> None:
    link = Path(_beside(path))
    try:
        link.hardlink_to(part)
    except FileNotFoundError:
        raise
    except OSError:  # a filesystem without hard links
        copy(part, path)
    else:
        link.replace(path)
        link.unlink(missing_ok=True)  # the rename does nothing if `path` is already a name of the same file


def remove(directory: str) -> None:
    """Deletes a directory, or all objects under a prefix in a store without directories, if there are any.

    If the filesystem refuses, a warning says so, because nothing rests on what only takes room.
    """
    try:
        _delete(directory if locations.is_local(directory) else f"{directory}/", directory)
    except Exception as error:  # noqa: BLE001 - each storage client has errors of its own
        _warn(directory, error)


def _warn(directory: str, error: Exception) -> None:
    logging.getLogger(__name__).warning("%s could not be deleted: %s", directory, one_line(error))


def remove_all(paths: Sequence[str], directory: str) -> None:
    """Deletes files of a directory, and the directory if nothing else is in it.

    Unlike `remove`, it leaves a file that another process puts there meanwhile.
    """
    try:
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            list(threads.map(remove_file, paths))
        if locations.is_local(directory):
            with contextlib.suppress(OSError):  # not empty, or not there
                Path(directory).rmdir()
    except Exception as error:  # noqa: BLE001 - as in `remove`
        _warn(directory, error)


def remove_file(path: str) -> None:
    """Deletes a file if it exists. Raises OSError if the filesystem refuses."""
    _delete(path, path)


def remove_files(paths: Sequence[str]) -> None:
    """Deletes files, those of them that exist."""
    for path in paths:
        remove_file(path)


def state(path: str) -> str | None:
    """Returns what tells a file from any other that takes its place later; None if there is none. Raises OSError."""
    try:
        if locations.is_gcs(path):
            return storage.gcs.describe(path, None).generation
        if locations.is_local(path):
            return _local_state(path)
        return version(metadata(path)) if match(path) else None
    except FileNotFoundError:
        return None


def _local_state(path: str) -> str:
    status = Path(path).stat()
    return f"{status.st_ino}-{status.st_mtime_ns}"


def remove_in_state(path: str, expected: str) -> None:
    """Deletes a file if it is in this state. Another in its place stays. Raises OSError if the filesystem refuses.

    A local file is moved aside first, because nothing else tells which file a removal hits. Filesystems of other clouds
    have only a look before.
    """
    if locations.is_gcs(path):
        storage.gcs.remove(path, expected)
    elif not locations.is_local(path):
        if state(path) == expected:
            remove_file(path)
    else:
        aside = Path(_beside(path))
        with contextlib.suppress(FileNotFoundError):
            Path(path).rename(aside)
            if _local_state(str(aside)) != expected:
                _put_back(aside, path)
            aside.unlink(missing_ok=True)


def _put_back(aside: Path, path: str) -> None:
    try:
        Path(path).hardlink_to(aside)
    except FileExistsError:  # a third file has its place by now
        return
    except OSError:  # a filesystem without hard links
        aside.rename(path)


def _delete(pattern: str, path: str) -> None:
    if locations.is_local(path):
        _delete_local(path)  # Beam would take brackets in the path for wildcards
        return
    try:
        FileSystems.delete([pattern])
    except BeamIOError as error:
        if FileSystems.exists(path):
            raise OSError(f"{path} cannot be deleted: {one_line(error)}") from error


def _delete_local(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            shutil.rmtree(path)
        else:
            os.remove(path)  # noqa: PTH107
