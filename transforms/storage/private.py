"""Directories of caches, to which only this user may write: a model in a cache is loaded without another check."""

import os
import stat
from pathlib import Path

_ROOT = 0  # may write anywhere in any case


class NotPrivate(ValueError):
    """A directory that others may write to."""


def make(directory: Path, named: str) -> Path:
    """Returns a directory that is this user's alone, and makes it if it does not exist.

    Its parents are not checked: a directory in /tmp is safe by the sticky bit of /tmp.

    Args:
      directory: local.
      named: the variable or flag that names the directory, for the message.

    Raises:
      NotPrivate: if it belongs to another user, or others may write to it.
      OSError: if it cannot be made.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    users = {os.geteuid(), _ROOT}
    for status in (directory.lstat(), directory.stat()):  # a link and its target
        if status.st_uid not in users:
            raise NotPrivate(
                f"{named}={str(directory)!r} belongs to user {status.st_uid}: a cache of models has to be of the user "
                f"who runs the job, {os.geteuid()}; name another directory by {named}"
            )
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise NotPrivate(
                f"{named}={str(directory)!r} may be written by others, with its mode {stat.S_IMODE(status.st_mode):o}: "
                f"expected a cache that is yours alone; empty it and run `chmod go-w {directory}`, or name another "
                f"directory by {named}"
            )
    return directory
