"""Files, local or in buckets: globs, versions, whole files, publishing by rename.

A file that cannot be read or written raises an OSError, wherever it lies: see `errors`. Requests are made with the
default settings of `Storage`.
"""

import contextlib
import itertools
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

from transforms.elements.one_line import one_line
from transforms.storage import errors, globs, local, locations, object_listing, stores
from transforms.storage.context import DEFAULT_STORAGE
from transforms.storage.stores.store import Stored

# Removing an object is a request of some 50 ms.
_AT_ONCE = 32


def match(pattern: str, limit: int | None = None) -> list[Stored]:
    """Returns the files that a glob matches, at most `limit`; see `globs`.

    Raises OSError if they cannot be listed, and ValueError as `check_location`.
    """
    if stores.is_bucket(pattern) and not globs.has_wildcards(pattern):
        with contextlib.suppress(FileNotFoundError):
            return [stores.of(pattern).described(DEFAULT_STORAGE, pattern.replace("[[]", "["))]
        return []
    if stores.is_bucket(pattern):
        listed = object_listing.objects(DEFAULT_STORAGE, pattern)
    else:
        from transforms.storage.stores import beam_filesystem  # which matches local globs too

        check_location(pattern)
        listed = beam_filesystem.listed(DEFAULT_STORAGE, pattern, limit=None if "**" in pattern else limit)
    matches = globs.matcher(pattern)
    return list(itertools.islice((found for found in listed if matches(found.path)), limit))


def check_location(path: str) -> None:
    """Raises ValueError for a URI of an unknown scheme, or if the client of its store is not installed."""
    if not locations.is_local(path):
        stores.of(path)


def described(path: str) -> Stored:
    """Returns what is known about one file; raises as `open_stored`."""
    if locations.is_local(path):
        status = local.status(path)
        return Stored(path, local.version(status.st_size, status.st_mtime), status.st_size, changed=status.st_mtime)
    return stores.of(path).described(DEFAULT_STORAGE, path)


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
    part = beside(path)
    try:
        with create(part) as file:
            yield file
        if check:
            check()
            try:
                rename(part, path)
            except OSError:
                check()  # its error says more, if it failed before and the part is gone
                raise
        else:
            publish(part, path)
    except BaseException:
        remove_file(part)
        raise


def beside(path: str) -> str:
    """Returns a new name beside a file, which no pattern without a leading dot matches."""
    directory, name = posixpath.split(path)
    return posixpath.join(directory, f".{name}.{uuid.uuid4().hex}")


def rename(part: str, path: str) -> None:
    """Renames a file. Raises OSError if it is gone, even if `path` exists."""
    if locations.is_local(path):
        Path(part).replace(path)
    else:
        store = stores.of(path)
        store.copy(DEFAULT_STORAGE, part, path)
        store.remove(DEFAULT_STORAGE, part)


def remove_pending(pattern: str) -> None:
    """Removes pending content: files that lie beside their final names and would still get them.

    Args:
      pattern: of the final paths, with wildcards only in the name.
    """
    directory, name = posixpath.split(pattern)
    beside = [file.path for file in match(f"{directory}/.{name}.*")]
    remove_files([path for path in beside if is_unfinished(posixpath.basename(path), "")])


def is_unfinished(name: str, suffix: str) -> bool:
    """Returns whether a name is that of a file that `write` or `copy` fills beside a final name with this suffix."""
    return re.fullmatch(rf"\..*{re.escape(suffix)}\.[0-9a-f]{{32}}", name, re.DOTALL) is not None


def hidden(directory: str) -> list[str]:
    """Returns the paths of the files in a directory, not below it, whose names begin with a dot. Raises OSError."""
    if not locations.is_local(directory):
        return [each.path for each in match(f"{directory}/.*")]
    try:
        return [entry.path for entry in os.scandir(directory) if entry.name.startswith(".") and entry.is_file()]
    except FileNotFoundError:
        return []


def create(path: str) -> BinaryIO:
    """Opens a file for writing, without compression whatever its name. Raises OSError; ValueError: `check_location`."""
    if not locations.is_local(path):
        return stores.of(path).create(DEFAULT_STORAGE, path)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Path(path).open("wb")


def open_stored(path: str) -> BinaryIO:
    """Opens a file for reading, as stored: a file is not decompressed even if its name ends in .gz.

    Raises:
      OSError: if it cannot be opened.
      NotARegularFile: if something else is in its place. Reading a pipe or a device might never end.
      ValueError: see `check_location`.
    """
    if locations.is_local(path):
        return local.open_regular(path)
    store = stores.of(path)
    return store.opened(DEFAULT_STORAGE, path, store.described(DEFAULT_STORAGE, path).version)


def publish(part: str, path: str) -> None:
    """Renames a complete file to its final name. Repeating this, as a retried bundle does, changes nothing.

    Raises OSError.
    """
    with _repeatable(part, path):
        rename(part, path)


def name(part: str, path: str) -> None:
    """Gives a complete file a second, final name. It appears whole, replaces any file of that name, and `part` stays.

    Repeating this changes nothing, even if `part` was removed in between. Raises OSError.
    """
    with _repeatable(part, path):
        if locations.is_local(path):
            _link(part, path)
        else:
            stores.of(path).copy(DEFAULT_STORAGE, part, path)


@contextlib.contextmanager
def _repeatable(part: str, path: str) -> Iterator[None]:
    """Ignores the error of a step that an earlier try has done: the part is gone, and the file has its name."""
    try:
        yield
    except FileNotFoundError:
        if _exists(part) or not _exists(path):
            raise


def _exists(path: str) -> bool:
    if locations.is_local(path):
        return os.path.lexists(path)
    try:
        stores.of(path).described(DEFAULT_STORAGE, path)
    except FileNotFoundError:
        return False
    return True


def _link(part: str, path: str) -> None:
    link = Path(beside(path))
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

    If the filesystem refuses, this only warns, because leftover files just take room.
    """
    try:
        if locations.is_local(directory):
            _delete_local(directory)
        else:
            _remove_at_once([found.path for found in stores.of(directory).listed(DEFAULT_STORAGE, f"{directory}/")])
    except OSError as error:
        _warn(directory, error)


def _warn(directory: str, error: Exception) -> None:
    logging.getLogger(__name__).warning("%s could not be deleted: %s", directory, one_line(error))


def remove_all(paths: Sequence[str], directory: str) -> None:
    """Deletes files of a directory, and the directory if nothing else is in it.

    Unlike `remove`, it leaves a file that another process puts there meanwhile.
    """
    try:
        _remove_at_once(paths)
        if locations.is_local(directory):
            with contextlib.suppress(OSError):  # not empty, or not there
                Path(directory).rmdir()
    except OSError as error:
        _warn(directory, error)


def _remove_at_once(paths: Sequence[str]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(remove_file, paths))


def remove_file(path: str) -> None:
    """Deletes a file if it exists. Raises OSError if the filesystem refuses."""
    if locations.is_local(path):
        _delete_local(path)
        return
    try:
        stores.of(path).remove(DEFAULT_STORAGE, path)
    except PermissionError as error:  # who may not list gets this for a missing file
        if _exists(path):
            raise errors.Forbidden(f"{path} cannot be deleted: {one_line(error)}") from error


def remove_files(paths: Sequence[str]) -> None:
    """Deletes those of the files that exist."""
    for path in paths:
        remove_file(path)


def state(path: str) -> str | None:
    """Returns a text that changes when another file takes this one's place; None without a file. Raises OSError."""
    try:
        return _local_state(path) if locations.is_local(path) else described(path).version
    except FileNotFoundError:
        return None


def _local_state(path: str) -> str:
    status = Path(path).stat()
    return f"{status.st_ino}-{status.st_mtime_ns}"


def remove_in_state(path: str, expected: str) -> None:
    """Deletes a file if it is in this state. Another in its place stays. Raises OSError if the filesystem refuses.

    A local file is moved aside first, because only then is it certain which file is removed.
    """
    if not locations.is_local(path):
        stores.of(path).remove(DEFAULT_STORAGE, path, expected)
    else:
        aside = Path(beside(path))
        with contextlib.suppress(FileNotFoundError):
            Path(path).rename(aside)
            if _local_state(str(aside)) != expected:
                _put_back(aside, path)
            aside.unlink(missing_ok=True)


def _put_back(aside: Path, path: str) -> None:
    try:
        Path(path).hardlink_to(aside)
    except FileExistsError:  # a third file has taken its place
        return
    except OSError:  # a filesystem without hard links
        aside.rename(path)


def _delete_local(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            shutil.rmtree(path)
        else:
            os.remove(path)  # noqa: PTH107
