"""Directories that appear complete or not at all, and replace only directories of their own kind.

All of them follow one policy. An existing directory is replaced only if the caller asks for it. Even then it must hold
nothing but entries that the caller writes, because anything else is somebody's work.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

Fill = Callable[[Path], None]


class Occupied(FileExistsError, ValueError):
    """A directory or file that exists and may not be replaced."""


@contextlib.contextmanager
def directory(
    path: Path, *, named: str, overwrite: bool, entries: Collection[str], markers: Collection[str] = ()
) -> Iterator[Path]:
    """Yields a new local directory beside `path` to fill, and renames it to `path` if the block raises no error.

    Args:
      path: absolute; its parents are made. If it is a link, the link is replaced, not its target.
      named, overwrite, entries, markers: see `check_entries`.

    Raises:
      Occupied: if `path` may not be replaced, before the block or after it.
      OSError: if the directory cannot be made.
    """
    check(path, named=named, overwrite=overwrite, entries=entries, markers=markers)
    path.parent.mkdir(parents=True, exist_ok=True)
    part, replaced = (path.with_name(f".{path.name}.{uuid.uuid4().hex}") for _ in range(2))
    part.mkdir()
    try:
        yield part
        check(path, named=named, overwrite=overwrite, entries=entries, markers=markers)  # hours may have passed
        if os.path.lexists(path):
            path.rename(replaced)
        try:
            part.rename(path)
        except OSError:
            if os.path.lexists(replaced):
                replaced.rename(path)
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if replaced.is_symlink():
            replaced.unlink()
        else:
            shutil.rmtree(replaced, ignore_errors=True)


def check(path: Path, *, named: str, overwrite: bool, entries: Collection[str], markers: Collection[str] = ()) -> None:
    """Raises Occupied unless `directory` may write to `path`; the arguments are the same."""
    if os.path.lexists(path):
        present = {entry.name for entry in path.iterdir()} if path.is_dir() else {""}  # a file is never replaced
        check_entries(present, named=named, overwrite=overwrite, entries=entries, markers=markers)


def check_entries(
    present: Collection[str], *, named: str, overwrite: bool, entries: Collection[str], markers: Collection[str] = ()
) -> None:
    """Raises Occupied unless a directory that exists may be replaced.

    Args:
      present: names of the entries of the directory.
      named: its name for the user, as in `--output '/out'`, for the message.
      overwrite: whether the user asked for it to be replaced.
      entries: names of all entries that the caller may write into it.
      markers: one of these entries is written last. A directory without any of them is unfinished, and is replaced
        without `overwrite`. If `markers` is empty, every directory counts as finished.
    """
    if not overwrite and (not markers or not set(markers).isdisjoint(present)):
        raise Occupied(f"{named} exists: give another, or --overwrite to replace it")
    if not set(present) <= set(entries):
        raise Occupied(
            f"{named} is not replaced, it holds more than this command writes: expected a directory with nothing but "
            f"{', '.join(sorted(entries))}"
        )


def fill_once(path: Path, fill: Fill) -> None:
    """Makes a local directory of a cache unless it exists. Several processes may try, and the first one wins.

    Args:
      path: its name determines its content, so two directories with one name hold the same files.
      fill: puts the files into an empty directory. Its errors are raised too.

    Raises:
      OSError: if the directory cannot be made.
    """
    if path.exists():
        return
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    part.mkdir(parents=True)
    try:
        fill(part)
        part.rename(path)
    except OSError:
        if not path.exists():  # otherwise another process was first
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
