"""Bounds on what metadata may cost: a small file can make Pillow read gigabytes before its first pixel.

- A directory of tags, in a TIFF and in EXIF, has up to 65,535 entries, and each may point at the whole file. Pillow
  copies the data of every entry, and makes a Python object of every number in those that it looks at.
- A TIFF of a few pixels may have a tile of gigabytes.
- A GIF has its comments in blocks of 255 bytes. Pillow appends them one by one, each time to a copy of all before.
- The first frame of a GIF may have to be replaced before the second. Pillow allocates the replacement at once.
- A colour profile may claim a lookup table of 512 MB, which LittleCMS allocates before it reads the table. Tables of
  floating point may consist of a million steps, for each of which it computes 4096 values.
"""

import contextlib
import io
import math
import struct
from collections.abc import Iterator
from typing import IO

from PIL import TiffImagePlugin, UnidentifiedImageError
from PIL.ExifTags import Base as Tag
from PIL.GifImagePlugin import GifImageFile

# Numbers in one directory. A TIFF of 100,000 rows in strips of one row has as many offsets and as many sizes.
_MAX_NUMBERS = 1 << 19

# Bytes that the entries of one directory may have beyond the size of the file: some share their data.
_SHARED_BYTES = 64 << 10

# The tags TileWidth and TileLength, and the most pixels of a tile, whatever the size of the image.
_TILE = (Tag.TileWidth, Tag.TileLength)
_MAX_TILE_PIXELS = 1 << 26

# Types whose values Pillow leaves as bytes: BYTE, ASCII, UNDEFINED (TIFF 6.0, section 2).
_BYTES_TYPES = (1, 2, 7)

# The most tags that LittleCMS reads of a profile, its MAX_TABLE_TAG.
_MAX_PROFILE_TAGS = 100

# The tags of floating-point tables in a colour profile. All profiles that have them have others too (ICC.1, section 8).
_FLOATING_POINT = (b"D2B", b"B2D")

# How often Pillow may read from a GIF. A block takes two reads.
_MAX_READS = 20_000

_UNBOUNDED_LOAD = TiffImagePlugin.ImageFileDirectory_v2.load


def open_gif(encoded: bytes) -> GifImageFile:
    """Returns the first frame of a GIF, as Image.open does. Opening it takes no memory for pixels.

    Raises:
      UnidentifiedImageError: if it is no GIF.
      ValueError: if its metadata come in too many parts. DecompressionBombError: if it has too many pixels for Pillow.
    """
    try:
        return _FirstFrame(_BoundedFile(encoded))
    except SyntaxError as error:
        raise UnidentifiedImageError(str(error)) from error


class _FirstFrame(GifImageFile):
    """A GIF that is not read beyond its first frame, so that it does not matter how the second replaces it."""

    @property
    def disposal_method(self) -> int:
        return 0

    @disposal_method.setter
    def disposal_method(self, method: int) -> None:
        pass


def bound_directories() -> None:
    """Makes Pillow check each directory of tags before it reads the tags' data.

    It has no hook for that. Pillow raises the ValueError over a TIFF, and ignores it over EXIF.
    """
    TiffImagePlugin.ImageFileDirectory_v2.load = _bounded_load  # type: ignore[method-assign,assignment]


class _BoundedFile(io.BytesIO):
    def __init__(self, encoded: bytes):
        super().__init__(encoded)
        self._left = _MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ValueError("the metadata consists of too many parts")
        return super().read(size)


def _bounded_load(directory: TiffImagePlugin.ImageFileDirectory_v2, fp: IO[bytes]) -> None:
    start = fp.tell()
    _check_directory(fp, directory._endian, directory._bigtiff)
    fp.seek(start)
    _UNBOUNDED_LOAD(directory, fp)


def directory_entries(file: IO[bytes], order: str, is_big: bool) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Yields (tag, type, number of values, bytes of a value, field, end of the values) for entries of a directory.

    The field is the position of the values, or the values themselves if they fit into it: then their end is 0.

    Args:
      file: a TIFF, or an EXIF block, at the position of the directory.
      order: of the bytes of a number, as struct writes it.
      is_big: whether the file is a BigTIFF.

    Raises:
      EOFError: after the last entry that is whole, if the directory is cut.
    """
    head, entry, inline = ("Q", "HHQQ", 8) if is_big else ("H", "HHLL", 4)
    entry_bytes = struct.calcsize(order + entry)
    counted = file.read(struct.calcsize(order + head))
    if len(counted) < struct.calcsize(order + head):
        raise EOFError
    (count,) = struct.unpack(order + head, counted)
    whole = min(count, (_size(file) - file.tell()) // entry_bytes)
    for tag, kind, values, field in struct.iter_unpack(order + entry, file.read(whole * entry_bytes)):
        unit = TiffImagePlugin.ImageFileDirectory_v2._load_dispatch.get(kind, (0,))[0]
        yield tag, kind, values, unit, field, field + values * unit if values * unit > inline else 0
    if whole < count:
        raise EOFError


def _size(file: IO[bytes]) -> int:
    at = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(at)
    return size


def _check_directory(file: IO[bytes], order: str, is_big: bool) -> None:
    """Raises ValueError if the directory at a file's position has more bytes than the file, or too many numbers."""
    file_bytes, field_bits = _size(file), 64 if is_big else 32
    bytes_ = numbers = 0
    sides: dict[int, int] = dict.fromkeys(_TILE, 0)
    with contextlib.suppress(EOFError):
        for tag, kind, values, unit, field, end in directory_entries(file, order, is_big):
            if tag in _TILE:
                value = field >> field_bits - 8 * unit if order == ">" else field & (1 << 8 * unit) - 1
                sides[tag] = max(sides[tag], value)  # libtiff takes the first entry of a tag, and Pillow the last
            if 0 < end <= file_bytes:  # Pillow stops at the data that ends beyond the file
                bytes_ += values * unit
                numbers += 0 if kind in _BYTES_TYPES else values
    if bytes_ > file_bytes + _SHARED_BYTES or numbers > _MAX_NUMBERS:
        raise ValueError(f"a directory of tags claims {bytes_} bytes of {file_bytes}, with {numbers} numbers")
    if math.prod(sides.values()) > _MAX_TILE_PIXELS:
        raise ValueError(f"a tile has {sides[_TILE[0]]}x{sides[_TILE[1]]} pixels, expected {_MAX_TILE_PIXELS} at most")


def bounded_profile(profile: bytes) -> bytes | None:
    """Returns a colour profile without floating-point tables. Its size bounds the time and memory of reading it.

    None if a lookup table claims more points than it has bytes, or there are more tags than LittleCMS reads. LittleCMS
    refuses these too, but a table only after it has allocated it.
    """
    bounded = bytearray(profile)
    (count,) = struct.unpack_from(">I", profile.ljust(132, b"\0"), 128)
    if count > _MAX_PROFILE_TAGS or len(profile) < 132 + 12 * count:
        return None
    for number in range(count):
        entry = 132 + 12 * number
        tag, start, size = struct.unpack_from(">4sII", profile, entry)
        if tag.startswith(_FLOATING_POINT):
            bounded[entry : entry + 4] = tag.lower()  # a name that no reader looks for
        elif _points_bytes(profile[start : start + size]) > size:
            return None
    return bytes(bounded)


def _points_bytes(table: bytes) -> int:
    """Returns the bytes that the points of a lookup table claim (ICC.1, sections 10.10 to 10.12); 0 for another tag."""
    kind, inputs, outputs, grid = table[:4], *table[8:11].ljust(3, b"\0")
    if kind in (b"mft1", b"mft2"):
        return grid**inputs * outputs * (1 if kind == b"mft1" else 2)
    if kind in (b"mAB ", b"mBA ") and len(table) >= 32:
        (start,) = struct.unpack_from(">I", table, 24)
        points = table[start : start + 17]
        if start and len(points) == 17:
            return math.prod(points[: min(inputs, 16)]) * outputs * max(1, points[16])
    return 0
