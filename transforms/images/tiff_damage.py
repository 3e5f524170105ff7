"""Tells whether the strips and tiles of a YCbCr TIFF can be decoded. libtiff's conversion to RGB does not say so.

libtiff continues after an error in a strip, and converts whatever is in its memory. So each strip is decoded once more,
as a grey picture of its bytes.
"""

import io
import itertools
import math
import struct
from collections.abc import Iterator

from PIL import Image, TiffImagePlugin
from PIL.ExifTags import Base as Tag

from transforms.images.tiff_kinds import SEPARATE_PLANES

# Without compression there is nothing to decode, and jpeg_damage checks JPEGs.
_OTHERS = (1, 6, 7)
_LONG = 4

_SUBSAMPLINGS = {1, 2, 4}


def check(tags: TiffImagePlugin.ImageFileDirectory_v2, encoded: bytes) -> None:
    """Raises OSError if a compressed part of a YCbCr picture is broken."""
    compression = tags.get(Tag.Compression, 1)
    if compression in _OTHERS:
        return
    for size, offset, count in _parts(tags):
        part = _as_grey(size, compression, tags.get(Tag.FillOrder, 1), encoded[offset : offset + count])
        with Image.open(io.BytesIO(part), formats=("TIFF",)) as grey:
            grey.load()


def _parts(tags: TiffImagePlugin.ImageFileDirectory_v2) -> Iterator[tuple[tuple[int, int], int, int]]:
    """Yields of each part its bytes as (bytes of a row, rows), and where it is in the file."""
    width, height = tags[Tag.ImageWidth], tags[Tag.ImageLength]
    is_tiled = Tag.TileOffsets in tags
    part_width = tags[Tag.TileWidth] if is_tiled else width
    part_height = tags[Tag.TileLength] if is_tiled else min(tags.get(Tag.RowsPerStrip, height), height)
    across, down = tags.get(Tag.YCbCrSubSampling, (2, 2))
    if not {across, down} <= _SUBSAMPLINGS:
        raise OSError(f"{across}×{down} luminances to a difference of colours, expected 1, 2 or 4 of them")
    places = (Tag.TileOffsets, Tag.TileByteCounts) if is_tiled else (Tag.StripOffsets, Tag.StripByteCounts)
    in_a_plane = math.ceil(height / part_height) * math.ceil(width / part_width)
    in_planes = tags.get(Tag.PlanarConfiguration) == SEPARATE_PLANES
    parts = zip(*(tags[place] for place in places), strict=False)
    for number, (offset, count) in enumerate(itertools.islice(parts, in_a_plane * (3 if in_planes else 1))):
        rows = part_height if is_tiled else min(part_height, height - number % in_a_plane * part_height)
        if in_planes:
            yield (part_width, rows), offset, count
        else:  # blocks of some luminances and two differences (TIFF 6.0, section 21)
            yield (math.ceil(part_width / across) * (across * down + 2), math.ceil(rows / down)), offset, count


def _as_grey(size: tuple[int, int], compression: int, fill_order: int, content: bytes) -> bytes:
    """Returns a TIFF with one strip of 8 bits a pixel."""
    tags = {
        Tag.ImageWidth: size[0],
        Tag.ImageLength: size[1],
        Tag.BitsPerSample: 8,
        Tag.Compression: compression,
        Tag.PhotometricInterpretation: 1,
        Tag.FillOrder: fill_order,
        Tag.StripOffsets: 0,
        Tag.SamplesPerPixel: 1,
        Tag.RowsPerStrip: size[1],
        Tag.StripByteCounts: len(content),
    }
    tags[Tag.StripOffsets] = 14 + 12 * len(tags)
    table = b"".join(struct.pack("<HHLL", tag, _LONG, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + table + bytes(4) + content
