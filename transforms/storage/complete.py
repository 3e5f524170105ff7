"""Directories that appear complete or not at all, and replace nothing but their like.

One policy for all of them. What exists is replaced only where the caller says so. Even then a directory is replaced
only if it holds nothing but the entries that the caller writes: anything else is somebody's work.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

Fill = Callable[[Path], None]


class Occupied(FileExistsError, ValueError):
    """A place that may not be written, for what is there already."""


@contextlib.contextmanager
def directory(
    path: Path, *, named: str, overwrite: bool, entries: Collection[str], marker: str | None = None
) -> Iterator[Path]:
    """Gives a new local directory beside `path` to fill, and renames it to `path` when the block ends well.

    Args:
      path: absolute; its parents are made. Of a link, the link is replaced, and not the directory that it leads to.
      named, overwrite, entries, marker: see `check_entries`.

    Raises:
      Occupied: if `path` may not be written, before the block or after it.
      OSError: if the directory cannot be made.
    """
    check(path, named=named, overwrite=overwrite, entries=entries, marker=marker)
    path.parent.mkdir(parents=True, exist_ok=True)
    part, replaced = (path.with_name(f".{path.name}.{uuid.uuid4().hex}") for _ in range(2))
    part.mkdir()
    try:
        yield part
        check(path, named=named, overwrite=overwrite, entries=entries, marker=marker)  # hours may have passed
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


def check(path: Path, *, named: str, overwrite: bool, entries: Collection[str], marker: str | None = None) -> None:
    """Raises Occupied unless `directory` may write to `path`; see there."""
    if os.path.lexists(path):
        present = {entry.name for entry in path.iterdir()} if path.is_dir() else {""}  # a file is no entry of anything
        check_entries(present, named=named, overwrite=overwrite, entries=entries, marker=marker)


def check_entries(
    present: Collection[str], *, named: str, overwrite: bool, entries: Collection[str], marker: str | None = None
) -> None:
    """Raises Occupied unless a directory that exists may be replaced.

    Args:
      present: names of what the directory holds.
      named: what the user calls it, as in `--output '/out'`, for the message.
      overwrite: whether the user asked for it to be replaced.
      entries: names of all that the caller may write into it.
      marker: the entry that is written last; a directory without it is unfinished, and is replaced unasked.
    """
    if not overwrite and (marker is None or marker in present):
        raise Occupied(f"{named} exists: give another, or --overwrite to replace it")
    if not set(present) <= set(entries):
        raise Occupied(
            f"{named} is not replaced, it holds more than this command writes: expected a directory with nothing but "
            f"{', '.join(sorted(entries))}"
        )


def fill_once(path: Path, fill: Fill) -> None:
    """Makes a local directory of a cache, unless it is there: several processes may try, and the first one wins.

    Args:
      path: whose name says what is in it, so that two that are called alike are alike.
      fill: puts the files into an empty directory.

    Raises:
      OSError: if the directory cannot be made; whatever `fill` raises.
    """
    if path.exists():
        return
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    part.mkdir(parents=True)
    try:
        fill(part)
        part.rename(path)
    except OSError:
        if not path.exists():  # else another process was first
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
