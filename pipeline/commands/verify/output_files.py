"""The files of an output, local or in cloud storage. They are not trusted: others may write there too."""

import bisect
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO, cast

from pipeline.commands.verify.file_names import FOLDERS, SCHEMA
from transforms.storage import files, locations


class NotRegular(OSError):
    """A directory, a pipe, a device or a link without a target in place of a file."""


class OutputFiles:
    """The files below the folders of an output, and its schema.

    Attributes:
      output: the directory, local or in cloud storage.
      names: of the files, below the output, sorted.
    """

    def __init__(self, output: str):
        """Lists the files. Raises OSError if that fails."""
        self.output = output
        listed = _local(output) if locations.is_local(output) else _remote(output)
        self.names = sorted(listed)

    def has(self, name: str) -> bool:
        """Returns whether there is a file of this name."""
        place = bisect.bisect_left(self.names, name)
        return self.names[place : place + 1] == [name]

    def below(self, folder: str) -> list[str]:
        """Returns the names of the files below a folder."""
        start, end = (bisect.bisect_left(self.names, folder + after) for after in "/0")  # 0 comes after /
        return self.names[start:end]

    def open(self, name: str) -> BinaryIO:
        """Opens a file for reading.

        Raises:
          OSError: if it cannot be read, or is no regular file, which might never end.
        """
        path = f"{self.output}/{name}"
        if locations.is_local(path) and not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - names may be any bytes
            raise NotRegular("expected a regular file")
        return files.open_stored(path)

    def read(self, name: str, most: int) -> bytes:
        """Returns a file's bytes. Raises ValueError if there are more than `most`; else see `open`."""
        with self.open(name) as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise ValueError(f"expected at most {most:,} bytes")
        return content

    def sha256(self, name: str) -> str:
        """Returns the SHA-256 of a file, in hex. Raises as `open`."""
        with self.open(name) as file:
            return hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()


def _local(output: str) -> Iterator[str]:
    if os.path.lexists(f"{output}/{SCHEMA}"):
        yield SCHEMA
    for folder in FOLDERS:
        root = f"{output}/{folder}"
        if os.path.lexists(root) and not os.path.isdir(root):  # noqa: PTH112
            yield folder
        for directory, directories, names in os.walk(root, onerror=_raise):
            # A link to a directory is not followed: its target may be anywhere, and contain itself.
            links = [name for name in directories if os.path.islink(f"{directory}/{name}")]  # noqa: PTH114
            for name in (*names, *links):
                yield f"{directory}/{name}".removeprefix(f"{output}/")


def _remote(output: str) -> Iterator[str]:
    for pattern in (SCHEMA, *(f"{folder}/**" for folder in FOLDERS)):
        for file in files.match(f"{output}/{pattern}"):
            yield file.path.removeprefix(f"{output}/")


def _raise(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error
