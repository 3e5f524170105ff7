"""Files as a user sees them who is not root, for whom directories can be closed."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_NOBODY = 65534


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Lets this process be that of a user who is not root, until the block ends. Import beforehand what it needs."""
    if os.geteuid():
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """Yields an empty directory that any user may enter, as pytest's own may not, and removes it at the end."""
    directory = Path(tempfile.mkdtemp(prefix="image-embeddings-open-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        for path in directory.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(directory)
