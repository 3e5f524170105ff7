"""A small file that several processes may want to write. Each writes it only if it is still in the state last seen.

A bucket's server checks the state itself: a generation or an ETag. On a local disk a lock on the directory guards the
check. Filesystems that only Beam knows have neither, so there two processes that write in the same instant may both
believe that they have won.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from transforms.storage import files, locations, stores
from transforms.storage.context import DEFAULT_STORAGE
from transforms.storage.errors import PreconditionFailed

_LOCK_SECONDS = 30.0
_LOCK_PAUSE_SECONDS = 0.005


class Content(NamedTuple):
    """The bytes of a file, and the state that it had when they were read."""

    content: bytes
    state: str


class Lost(OSError):
    """Another process has written the file since it was read."""


def read(path: str) -> Content | None:
    """Returns a file's content and state, or None if there is no such file. Raises OSError."""
    if not locations.is_local(path):
        return _read_object(path)
    with contextlib.suppress(FileNotFoundError), Path(path).open("rb") as file:
        content = file.read()
        return Content(content, _local_state(os.fstat(file.fileno()), content))  # even if it is replaced meanwhile
    return None


def _read_object(path: str) -> Content | None:
    store = stores.of(path)
    while True:
        try:
            state = store.described(DEFAULT_STORAGE, path).version
        except FileNotFoundError:
            return None
        with contextlib.suppress(FileNotFoundError):  # another has written it between the two requests
            return Content(store.read(DEFAULT_STORAGE, path, state), state)


def write(path: str, content: bytes, state: str | None) -> str:
    """Writes a file whole, and returns its new state.

    Args:
      path: of the file.
      content: its new bytes.
      state: the state that the file must have; None if it must not exist.

    Raises:
      Lost: if the file is in another state.
      OSError: if it cannot be written, or a process has held the lock for too long.
    """
    if not locations.is_local(path):
        return _write_object(path, content, state)
    with _locked(path):
        _check(path, state)
        files.write(path, content)
        present = read(path)
    if present is None or present.content != content:
        raise Lost(f"{path} was removed or replaced as it was written")
    return present.state


def create(path: str, content: bytes) -> None:
    """Writes a file whole that must not exist, as `write` does.

    On a local disk with hard links it holds no lock, so that a process that is stopped meanwhile blocks no other.
    Raises Lost if the file exists, and OSError as `write`.
    """
    if locations.is_local(path) and _linked(path, content):
        return
    write(path, content, None)


def _linked(path: str, content: bytes) -> bool:
    """Returns whether a new local file was written by a hard link; False if the filesystem has none."""
    part = files.beside(path)
    try:
        with files.create(part) as file:
            file.write(content)
        Path(path).hardlink_to(part)
    except FileExistsError as error:
        raise Lost(f"{path} was written by another process") from error
    except OSError:
        return False
    finally:
        files.remove_file(part)
    return True


def remove(path: str, state: str) -> None:
    """Removes a file. Raises Lost if it is in another state, and OSError if it cannot be removed."""
    if not locations.is_local(path):
        stores.of(path).remove(DEFAULT_STORAGE, path, state)
        return
    with _locked(path):
        _check(path, state)
        files.remove_file(path)


def remove_unfinished(path: str) -> None:
    """Removes what killed processes left while they wrote this local file, or another of its suffix beside it.

    A process that writes such a file holds the lock of the directory. So a file that is unfinished while this process
    holds the lock is left over. Without locks nothing is removed, and in a bucket there is nothing to remove.
    Raises OSError if the filesystem refuses.
    """
    if not locations.is_local(path):
        return
    with _locked(path) as is_locked:
        if is_locked:
            directory, suffix = Path(path).parent, Path(path).suffix
            files.remove_files([str(file) for file in directory.iterdir() if files.is_unfinished(file.name, suffix)])


def _check(path: str, state: str | None) -> None:
    present = read(path)
    if (present.state if present else None) != state:
        raise Lost(f"{path} was written by another process")


def _write_object(path: str, content: bytes, state: str | None) -> str:
    try:
        return stores.of(path).write(DEFAULT_STORAGE, path, content, state)
    except PreconditionFailed as error:
        # If the reply to the first request was lost, the second request meets the result of the first.
        present = read(path)
        if present is not None and present.content == content:
            return present.state
        raise Lost(f"{path} was written by another process") from error


def _local_state(status: os.stat_result, content: bytes) -> str:
    """Returns the state of a local file. A file that replaces another at once may have the same inode and time."""
    return f"{status.st_ino}-{status.st_mtime_ns}-{hashlib.sha256(content).hexdigest()}"


@contextlib.contextmanager
def _locked(path: str) -> Iterator[bool]:
    """Holds the lock of a local file's directory, where the filesystem has locks, and yields whether it does."""
    directory = Path(path).parent
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            _lock(descriptor, directory)
            is_locked = True
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                raise
            is_locked = False
        yield is_locked
    finally:
        os.close(descriptor)


def _lock(descriptor: int, directory: Path) -> None:
    """Takes the lock of a directory. Other processes hold it for milliseconds, or longer if they are stopped."""
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > end:
                raise TimeoutError(
                    f"{directory}: another process has held its lock for {_LOCK_SECONDS:.0f} s; is one stopped?"
                ) from error
        time.sleep(_LOCK_PAUSE_SECONDS)
