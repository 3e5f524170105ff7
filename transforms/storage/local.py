"""Files of this machine, and things that are no regular files. No Beam."""

import errno
import os
import stat
from typing import BinaryIO

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a directory",
}


class NotARegularFile(OSError, ValueError):
    """Something else in place of a file, which is not read: a pipe, socket, device or directory, or a link to one."""


def version(size: int, modified: float) -> str:
    """Returns size (bytes) and mtime (s), which change when the content of a file does."""
    return f"{size}-{modified:.6f}"


def described(path: str) -> tuple[str, int]:
    """Returns the version and the size of a file; raises as `status`."""
    found = status(path)
    return version(found.st_size, found.st_mtime), found.st_size


def open_regular(path: str) -> BinaryIO:
    """Opens a file for reading. Raises OSError if it cannot be opened, and NotARegularFile if it is something else."""
    status(path)  # checked before opening, because opening some devices has effects
    # If a pipe takes the file's place now, O_NONBLOCK opens it without waiting for a writer.
    file = open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))  # noqa: SIM115
    try:
        _check_regular(path, os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file


def ends(path: str, length: int) -> bytes:
    """Returns the first and the last `length` bytes of a file, or all of a shorter one; raises as `open_regular`."""
    with open_regular(path) as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        first = os.pread(descriptor, length, 0)
        return first + os.pread(descriptor, length, max(length, size - length))


def status(path: str) -> os.stat_result:
    """Returns the status of a local file; raises OSError if there is none, or something else."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a path is text, which need not be UTF-8
    except FileNotFoundError as error:
        if os.path.islink(path):  # noqa: PTH114
            raise FileNotFoundError(f"a link to a file that does not exist: {path!r}") from error
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotARegularFile(f"not a regular file: links in a loop: {path!r}") from error
        raise
    _check_regular(path, status)
    return status


def unseen(path: str) -> str | None:
    """Returns the place on a path that hides whether there is a file: a broken link, or one without permission.

    It may be the file itself, on a path without links: network filesystems omit files from a listing now and then.
    Returns None if the lowest existing place is anything else, because then nothing is hidden.
    """
    if os.path.isfile(path) and os.path.realpath(path) == path:  # noqa: PTH113
        return path
    while True:
        try:
            is_link = stat.S_ISLNK(os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            directory = os.path.dirname(path)  # noqa: PTH120
            if directory == path:
                return None
            path = directory
        except OSError:
            return path
        else:
            return path if is_link and not os.path.exists(path) else None  # noqa: PTH110


def check_listable(directory: str) -> None:
    """Raises OSError if a directory cannot be listed, or cannot be entered to read its files."""
    os.stat(os.path.join(directory, "."))  # noqa: PTH116, PTH118
    os.scandir(directory).close()


def _check_regular(path: str, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
    if stat.S_ISDIR(status.st_mode):
        try:
            check_listable(path)
        except OSError as error:
            raise type(error)(f"a directory that may not be listed: {error}") from error
    if os.path.islink(path):  # noqa: PTH114
        kind = f"a link to {kind}"
    raise NotARegularFile(f"not a regular file: {kind}: {path!r}")
