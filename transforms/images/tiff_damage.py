"""Whether the strips and tiles of a YCbCr TIFF can be decoded, of which libtiff's conversion to RGB says nothing.

It goes on after an error in a strip, and converts what its memory held. So each strip is decoded once more, as the grey
picture of its bytes.
"""

import io
import itertools
import math
import struct
from collections.abc import Iterator

from PIL import Image, TiffImagePlugin

# Tags (TIFF 6.0).
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_OFFSETS, _SAMPLES, _ROWS, _SIZES, _PLANAR, _SUBSAMPLING = 273, 277, 278, 279, 284, 530
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES = 322, 323, 324, 325

# Without compression there is nothing to decode, and JPEGs are looked at by jpeg_damage.
_OTHERS = (1, 6, 7)
_SEPARATE_PLANES = 2
_LONG = 4

_SUBSAMPLINGS = {1, 2, 4}


def check(tags: TiffImagePlugin.ImageFileDirectory_v2, encoded: bytes) -> None:
    """Raises OSError if a compressed part of a YCbCr picture is broken."""
    compression = tags.get(_COMPRESSION, 1)
    if compression in _OTHERS:
        return
    for size, offset, count in _parts(tags):
        part = _as_grey(size, compression, tags.get(_FILL_ORDER, 1), encoded[offset : offset + count])
        with Image.open(io.BytesIO(part), formats=("TIFF",)) as grey:
            grey.load()


def _parts(tags: TiffImagePlugin.ImageFileDirectory_v2) -> Iterator[tuple[tuple[int, int], int, int]]:
    """Yields of each part its bytes as (bytes of a row, rows), and where it is in the file."""
    width, height = tags[_WIDTH], tags[_HEIGHT]
    is_tiled = _TILE_OFFSETS in tags
    part_width = tags[_TILE_WIDTH] if is_tiled else width
    part_height = tags[_TILE_HEIGHT] if is_tiled else min(tags.get(_ROWS, height), height)
    across, down = tags.get(_SUBSAMPLING, (2, 2))
    if not {across, down} <= _SUBSAMPLINGS:
        raise OSError(f"{across}×{down} luminances to a difference of colours, expected 1, 2 or 4 of them")
    places = (_TILE_OFFSETS, _TILE_SIZES) if is_tiled else (_OFFSETS, _SIZES)
    in_a_plane = math.ceil(height / part_height) * math.ceil(width / part_width)
    in_planes = tags.get(_PLANAR) == _SEPARATE_PLANES
    parts = zip(*(tags[place] for place in places), strict=False)
    for number, (offset, count) in enumerate(itertools.islice(parts, in_a_plane * (3 if in_planes else 1))):
        rows = part_height if is_tiled else min(part_height, height - number % in_a_plane * part_height)
        if in_planes:
            yield (part_width, rows), offset, count
        else:  # blocks of some luminances and two differences (TIFF 6.0, section 21)
            yield (math.ceil(part_width / across) * (across * down + 2), math.ceil(rows / down)), offset, count


def _as_grey(size: tuple[int, int], compression: int, fill_order: int, content: bytes) -> bytes:
    """Returns a TIFF with one strip of 8 bits a pixel."""
    tags = {_WIDTH: size[0], _HEIGHT: size[1], _BITS: 8, _COMPRESSION: compression, _PHOTOMETRIC: 1}
    tags |= {_FILL_ORDER: fill_order, _OFFSETS: 0, _SAMPLES: 1, _ROWS: size[1], _SIZES: len(content)}
    tags[_OFFSETS] = 14 + 12 * len(tags)
    table = b"".join(struct.pack("<HHLL", tag, _LONG, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + table + bytes(4) + content
