"""A local directory that appears complete or not at all."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path


@contextlib.contextmanager
def complete(path: Path, *, overwrite: bool, entries: Collection[str]) -> Iterator[Path]:
    """Gives a new directory beside `path` to fill, and renames it to `path` when the block ends well.

    Args:
      path: absolute; its parents are made.
      overwrite: whether a directory that is there may be replaced.
      entries: what is written there: one that holds anything else is somebody's, and not replaced.

    Raises:
      ValueError: if `path` exists and may not be replaced.
      OSError: if the directory cannot be made.
    """
    _check(path, overwrite, entries)
    path.parent.mkdir(parents=True, exist_ok=True)
    part, replaced = (path.with_name(f".{path.name}.{uuid.uuid4().hex}") for _ in range(2))
    part.mkdir()
    try:
        yield part
        _check(path, overwrite, entries)  # hours may have passed
        if os.path.lexists(path):
            path.rename(replaced)
        try:
            part.rename(path)
        except OSError:
            if os.path.lexists(replaced):
                replaced.rename(path)
            raise
    finally:
        for stray in (part, replaced):
            shutil.rmtree(stray, ignore_errors=True)


def _check(path: Path, overwrite: bool, entries: Collection[str]) -> None:
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise ValueError(f"--output {str(path)!r} exists: give another, or --overwrite to replace it")
    found = {entry.name for entry in path.iterdir()} if path.is_dir() else {path.name}
    if path.is_symlink() or not found <= set(entries):
        raise ValueError(
            f"--output {str(path)!r} is not replaced, it holds more than this command writes: expected a directory "
            f"with nothing but {', '.join(sorted(entries))}"
        )
