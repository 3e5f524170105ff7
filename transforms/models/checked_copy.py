"""A private copy of a model's files, whose digest is checked, for the loader.

A model may be replaced while a job runs, even between a check of its files and their loading. So the bytes are hashed
while they are copied, and the loader reads the copy.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from transforms.models import handles
from transforms.models.spec import ModelSpec

_CHUNK_BYTES = 2**20

_copies: set[str] = set()


class Changed(ValueError):
    """The files of a model are not those that were found when the job was launched."""


@contextlib.contextmanager
def files(spec: ModelSpec) -> Iterator[Path]:
    """Yields the directory or file of a model, as `handles.local_path` does: a copy that exists within the block.

    A loader may map its files into memory. They stay there, unchanged, after the block.

    Raises:
      Changed: if the files do not have the digest `spec.files`.
      ValueError: if they cannot be obtained.
      OSError: if they cannot be read, or if there is no room for a copy.
    """
    path = handles.local_path(spec.location, spec.storage)
    if not spec.files:  # no digest is known
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="embed-images-model-", ignore_cleanup_errors=True) as directory:
        _copies.add(directory)
        try:
            yield _checked_copy(spec, path, Path(directory))
        finally:
            _copies.discard(directory)


def remove_all() -> None:
    """Removes all copies, before the process ends in the middle of a block."""
    for directory in list(_copies):
        shutil.rmtree(directory, ignore_errors=True)


def memory_key(spec: ModelSpec) -> object:
    """Returns what identifies a model in memory besides its spec: the state of its files, if the spec has no digest."""
    return () if spec.files else handles.files_state(spec.location)


def _checked_copy(spec: ModelSpec, path: Path, directory: Path) -> Path:
    try:
        copy, digest = _copy(path, directory)
    except FileNotFoundError as error:  # replaced while it was copied
        raise Changed(_message(spec, f"{error.filename!r} is gone")) from error
    if digest != spec.files:
        raise Changed(_message(spec, f"their digest is {digest}, expected {spec.files}"))
    return copy


def _message(spec: ModelSpec, reason: str) -> str:
    return (
        f"model={spec.name!r}: the files in {spec.location!r} are not those that the launch found ({reason}): put "
        "those back to go on, or launch a new run with the files that are there now"
    )


def _copy(path: Path, directory: Path) -> tuple[Path, str]:
    """Copies a model into an empty directory, and returns the copy and the digest of the bytes in it."""
    names = handles.files_of(path)
    contents = {name: _copy_file(file, directory / name) for name, file in names.items()}
    copy = directory
    if path.is_file():  # the main file, which comes first; Keras looks at the suffix
        main = directory / next(iter(names))
        copy = main.rename(main.with_suffix(path.suffix))
    return copy, handles.digest_of(contents)


def _copy_file(source: Path, target: Path) -> str:
    """Copies a file, and returns the hex SHA-256 of its bytes. Instead of waiting for a pipe, it raises OSError."""
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as content, target.open("xb") as copy:
        if not stat.S_ISREG(os.fstat(content.fileno()).st_mode):
            raise OSError(f"{str(source)!r} is no regular file any more")
        while chunk := content.read(_CHUNK_BYTES):
            digest.update(chunk)
            copy.write(chunk)
    return digest.hexdigest()
