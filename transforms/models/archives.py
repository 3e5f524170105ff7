"""Archives of models. They come from strangers, so all of an archive is checked before any of it is unpacked."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from transforms.elements.one_line import one_line

# A SavedModel has a dozen files.
MAX_MEMBERS = 10_000

# The name and other facts before the data of a member. tarfile reads them into memory, whatever size they state.
_MAX_HEADER_BYTES = 2**20

# The configuration of a network in a `.keras` file. That of a thousand layers has 1 MB.
MAX_JSON_BYTES = 2**26

_DECOMPRESSORS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}


def check(archive: BinaryIO, named: str, max_bytes: int) -> None:
    """Checks a tar file, compressed or not, from its beginning to the first fault, without unpacking it.

    Raises:
      ValueError: if it is no tar file, if all members together have more than `max_bytes`, or if a member is neither a
        file nor a directory, or leads out of the directory that it is unpacked into. Its message begins with `named`.
    """
    size = 0
    for number, member in enumerate(_members(archive, named)):
        size += member.size
        if member.size < 0:
            raise ValueError(f"{named}: its member {member.name!r} has a negative size")
        if size > max_bytes:
            raise ValueError(f"{named}: unpacks to more than {max_bytes} bytes")
        if number >= MAX_MEMBERS:
            raise ValueError(f"{named}: unpacks to more than {MAX_MEMBERS} files")
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\0" in member.name:
            raise ValueError(f"{named}: its member {member.name!r} leads out of the archive")
        if not (member.isfile() or member.isdir()):
            raise ValueError(f"{named}: its member {member.name!r} is a link or a device, expected files only")


def unpack(archive: Path, named: str, max_bytes: int, directory: Path) -> None:
    """Unpacks a tar file into a directory.

    Raises:
      ValueError: see `check`. Nothing is unpacked then.
    """
    with archive.open("rb") as file:
        check(file, named, max_bytes)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:*") as tar:
            tar.extractall(directory, filter="data")


def check_keras(file: Path, named: str, max_bytes: int) -> None:
    """Checks the sizes in a `.keras` file, which is a zip file. Keras reads its members into memory.

    Raises:
      ValueError: if it is no zip file, or unpacks to more than `max_bytes`.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ValueError(f"{named}: not a readable .keras file: {one_line(error, 200)}") from error
    if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > max_bytes:
        raise ValueError(f"{named}: unpacks to more than {max_bytes} bytes or {MAX_MEMBERS} files")
    if any(member.file_size > MAX_JSON_BYTES for member in members if member.filename.endswith(".json")):
        raise ValueError(f"{named}: its configuration has more than {MAX_JSON_BYTES} bytes")


def _members(archive: BinaryIO, named: str) -> Iterator[tarfile.TarInfo]:
    """Yields the members of a tar file. Raises ValueError for a broken one."""
    archive.seek(0)
    magic = archive.read(6)
    archive.seek(0)
    decompress = next((opener for start, opener in _DECOMPRESSORS.items() if magic.startswith(start)), None)
    try:
        headers = _Headers(decompress(archive) if decompress else archive)
        with tarfile.TarFile(fileobj=cast(Any, headers)) as tar:
            while member := tar.next():
                headers.read_bytes = 0
                yield member
    # tarfile raises these for bytes that are no tar file, and the decompressors for a broken stream.
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{named}: not a readable tar file: {one_line(error, 200)}") from error


class _Headers:
    """A file of which only the tar headers are read. tarfile seeks over all data."""

    def __init__(self, file: Any):
        self.read_bytes = 0
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        self.read_bytes += size
        if self.read_bytes > _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a member has a header of more than {_MAX_HEADER_BYTES} bytes")
        content: bytes = self._file.read(size)
        return content
