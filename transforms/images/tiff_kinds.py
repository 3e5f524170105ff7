"""Opens TIFFs, also of kinds that Pillow does not know or reads wrongly.

Kinds without a defined reading are refused by name: floating-point and signed samples have no black and no white, and
the first picture of a camera's raw file is a thumbnail.
"""

import io
import itertools
import math
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImagePalette, TiffImagePlugin
from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import TiffImageFile

from transforms.images import bounds, jpeg_header
from transforms.images.image_errors import CorruptImage, UnsupportedColour, UnsupportedImage
from transforms.images.samples import sixteen_to_eight

# The tags of the offsets of parts, and of their sizes.
_STRIPS = (Tag.StripOffsets, Tag.StripByteCounts)
_TILES = (Tag.TileOffsets, Tag.TileByteCounts)

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE, _YCBCR = 0, 1, 3, 6
_PHOTOMETRICS = {
    0: "grey, white is zero",
    1: "grey, black is zero",
    2: "RGB",
    3: "a palette",
    4: "a mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELab",
    9: "ICCLab",
    10: "ITULab",
    32803: "a colour filter array",
    32844: "LogL",
    32845: "LogLuv",
    34892: "linear raw",
}
# Of a camera's sensor.
_SENSORS = (32803, 34892)

_REDUCED = 1  # bit 0 of NewSubfileType
_OLD_REDUCED = 2  # of SubfileType

_SIGNED, _FLOATING_POINT = (2, 5), (3, 6)

# Cameras write two or three directories below the first: a larger preview, and the sensor's samples.
_MAX_BELOW = 4

_BIG = 43  # the version of BigTIFF
_OLD_JPEG, _JPEG, _WEBP = 6, 7, 50001
SEPARATE_PLANES = 2
_LOW_BIT_FIRST = 2
_UNSPECIFIED, _ASSOCIATED, _UNASSOCIATED = 0, 1, 2

# The bytes after the header in raw files of Canon and Phase One.
_RAW_MARKS = (b"CR", b"IIIITwaR", b"MMMMRawT")

_BIG_ENDIAN_BIG = b"MM\0\x2b"

_HEADER = 8  # bytes of the shortest header

_PREFIXES = tuple(TiffImagePlugin.PREFIXES)


def add_kinds() -> None:
    """Makes Pillow open kinds whose samples `Tiff.plain` interprets. They have to be entered in Pillow's own table."""
    unsigned, in_order = (1,), 1
    for prefix, order in ((b"II", ""), (b"MM", "B")):
        kinds: dict[tuple[int, tuple[int, ...], tuple[int, ...]], tuple[str, str]] = {}
        for photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO):
            kinds[photometric, (12,), ()] = "I;16", "I;12"
            kinds[photometric, (16,), ()] = "I;16" + order, "I;16" + order
            kinds[photometric, (32,), ()] = "I", "I;32" + order
        for extra in (_UNSPECIFIED, _ASSOCIATED, _UNASSOCIATED):
            kinds[_BLACK_IS_ZERO, (8, 8), (extra,)] = "LA", "LA"
            kinds[_BLACK_IS_ZERO, (16, 16), (extra,)] = "RGBA", "RGBA"  # four bytes a pixel
        for (photometric, bits, extras), modes in kinds.items():
            TiffImagePlugin.OPEN_INFO.setdefault((prefix, photometric, unsigned, in_order, bits, extras), modes)


def is_tiff(encoded: bytes) -> bool:
    return encoded.startswith(_PREFIXES)


def open_tiff(encoded: bytes) -> "Tiff":
    """Returns the first picture of a TIFF, of which only the header was read.

    Raises:
      UnsupportedImage: if it is a camera's raw file, or of a kind that is not read.
      UnsupportedColour: if its samples are signed or floating point.
      CorruptImage: if the first directory is cut.
      ValueError: if its metadata costs too much.
    """
    if encoded.startswith(_RAW_MARKS, 8):
        raise UnsupportedImage("a camera's raw file (CR2, IIQ): expected the picture that was developed from it")
    if encoded.startswith(_BIG_ENDIAN_BIG):
        raise UnsupportedImage("a BigTIFF with the high byte of numbers first, which Pillow does not read")
    try:
        return Tiff(io.BytesIO(encoded))
    except SyntaxError as error:
        raise CorruptImage(f"the TIFF's first directory is broken: {error}") from error
    except UnsupportedImage as error:
        if not _is_directory_whole(encoded):
            raise CorruptImage("the TIFF is cut within its first directory") from error
        raise


def _is_directory_whole(encoded: bytes) -> bool:
    """Returns whether the first directory and the data of its entries are in the file."""
    order, file = "<" if encoded.startswith(b"I") else ">", io.BytesIO(encoded)
    is_big = encoded[2:4] in (b"\x2b\0", b"\0\x2b")
    try:
        (at,) = struct.unpack_from(order + ("8xQ" if is_big else "4xL"), encoded)
        file.seek(at)
        return all(end <= len(encoded) for *_, end in bounds.directory_entries(file, order, is_big))
    except (struct.error, EOFError, OverflowError):
        return False


class Tiff(TiffImageFile):
    """The first picture of a TIFF."""

    def _setup(self) -> None:
        tags = self.tag_v2
        self._photometric = tags.get(Tag.PhotometricInterpretation, 0)
        self._formats = set(self._numbers(Tag.SampleFormat))
        self._extra = tuple(self._numbers(Tag.ExtraSamples))
        self._bits = tuple(self._numbers(Tag.BitsPerSample)) or (1,)
        if len(self._bits) == 1:
            self._bits *= min(8, max(1, *self._numbers(Tag.SamplesPerPixel), 1))
        self._is_in_planes = tags.get(Tag.PlanarConfiguration) == SEPARATE_PLANES
        self._check()
        if Tag.ImageWidth not in tags:
            raise CorruptImage("the TIFF ends before its first directory, or has none")
        if self._is_in_planes:
            self._check_planes()
        try:
            super()._setup()
        except (SyntaxError, KeyError) as error:
            raise UnsupportedImage(f"a TIFF of a kind that is not read: {self._description()}") from error
        if self.mode in ("P", "PA") and max(tags[Tag.ColorMap]) < 256:  # a map of 8 bits, to libtiff and others too
            self.palette = ImagePalette.raw("RGB;L", bytes(tags[Tag.ColorMap]))
        self._choose_reader()

    def plain(self) -> Image.Image:
        """Returns the loaded picture with the samples that its tags mean, in a mode of 8 bits or as it is."""
        if self._photometric == _BLACK_IS_ZERO:  # only here does grey have extra samples
            if self._bits == (16, 16):
                high = 1 if self._is_little_endian else 0
                return self._with_alpha(self.getchannel(high), self.getchannel(2 + high))
            if self.mode == "LA":
                return self._with_alpha(self.getchannel(0), self.getchannel(1))
        if self.mode == "LAB" and self._is_in_planes:
            lightness, *signed = self.split()
            return Image.merge("LAB", (lightness, *(band.point([v ^ 128 for v in range(256)]) for band in signed)))
        if self.mode.startswith("I"):
            grey = self._grey()
            return Image.fromarray(255 - grey if self._photometric == _WHITE_IS_ZERO else grey)
        return self

    def check_parts(self) -> None:
        """Raises CorruptImage if Pillow's own reader would leave pixels out, or take the file's header for pixels.

        It would also overwrite the first strips with strips that do not fit into the picture. Call it before `load`.
        """
        if self.use_load_libtiff:
            return
        planes = len(self._bits) - self._extra.count(_UNSPECIFIED) if self._is_in_planes else 1
        missing = math.prod(self._tile_size) * planes
        parts = []
        for tile in self.tile:
            if missing > 0:
                assert tile.extents is not None  # noqa: S101 - Pillow's reader of TIFFs gives those of each part
                left, upper, right, lower = tile.extents
                missing -= (right - left) * (lower - upper)
                parts.append(tile)
        if missing > 0:
            raise CorruptImage("the TIFF has fewer strips or tiles than its size needs")
        _check_places(part.offset for part in parts)
        self.tile = parts

    def is_converted(self) -> bool:
        """Returns whether libtiff computes the colours. Otherwise Pillow does, from the file's samples."""
        return bool(self._photometric == _YCBCR)

    def jpegs(self, encoded: bytes) -> Iterator[bytes]:
        """Yields each strip or tile that is compressed as JPEG, with the tables that they share.

        Raises CorruptImage if the file ends before a strip of the old kind of JPEG, which libtiff does not report.
        """
        if self.tag_v2.get(Tag.Compression) == _OLD_JPEG:
            yield from self._old_jpegs(encoded)
        if self.tag_v2.get(Tag.Compression) != _JPEG:
            return
        tables = self.tag_v2.get(Tag.JPEGTables)
        head = tables[:-2] if isinstance(tables, bytes) and tables.endswith(b"\xff\xd9") else b""
        for at, size in itertools.chain(self._ranges(*_STRIPS), self._ranges(*_TILES)):
            yield head + encoded[at + 2 * bool(head) : at + size]

    def _old_jpegs(self, encoded: bytes) -> Iterator[bytes]:
        """Yields the JPEG of a TIFF that holds it whole. Others hold parts of it, which cannot be checked."""
        for at, size in self._ranges(Tag.JpegIFOffset, Tag.JpegIFByteCount):
            jpeg = encoded[at : at + size]
            if jpeg_header.scan(jpeg) >= 0:
                yield jpeg
        if any(at + size > len(encoded) for at, size in self._ranges(*_STRIPS)):
            raise CorruptImage("the TIFF ends before its pixels")

    def _ranges(self, offsets: Tag, sizes: Tag) -> Iterator[tuple[int, int]]:
        """Returns the (offset, size) of each part of the file that two tags describe, in bytes."""
        return zip(self._numbers(offsets), self._numbers(sizes), strict=False)

    def _numbers(self, tag: Tag) -> Sequence[int]:
        return _numbers(self.tag_v2.get(tag))

    def _check(self) -> None:
        tags = self.tag_v2
        if Tag.DNGVersion in tags or self._photometric in _SENSORS or self._is_preview():
            raise UnsupportedImage("a camera's raw file: expected the picture that was developed from it")
        is_reduced = any(kind & _REDUCED for kind in self._numbers(Tag.NewSubfileType))
        if is_reduced or _OLD_REDUCED in self._numbers(Tag.SubfileType):
            raise UnsupportedImage("the TIFF's first picture is a reduced copy of another, as in a camera's raw file")
        if tags.get(Tag.Compression) == _WEBP:
            raise UnsupportedImage("a TIFF compressed as WebP, which Pillow's libtiff does not read")
        if self._formats.intersection(_FLOATING_POINT):
            raise UnsupportedColour("expected 8 or 16 bits a sample, not floating point: its range is not defined")
        # Pillow writes its mode I, in which it once held 16 bits, as 32 signed ones.
        if self._formats.intersection(_SIGNED) and set(self._bits) != {32}:
            raise UnsupportedColour("expected samples without a sign: the range of signed ones is not defined")

    def _is_preview(self) -> bool:
        """Returns whether a directory below this one has more pixels, or one below or after it those of a sensor."""
        assert self.fp is not None  # noqa: S101 - it is being opened
        at, pixels = self.fp.tell(), _pixels(self.tag_v2)
        self.fp.seek(0)
        head = self.fp.read(8)
        if head[2] == _BIG:
            head += self.fp.read(8)
        is_preview = False
        for offset in self._numbers(Tag.SubIFDs)[:_MAX_BELOW]:
            tags = self._directory(head, offset)
            is_preview = is_preview or tags.get(Tag.PhotometricInterpretation) in _SENSORS or _pixels(tags) > pixels
        following = self.tag_v2.next
        for _ in range(_MAX_BELOW):
            if not following or is_preview:
                break
            try:
                tags = self._directory(head, following)
            except ValueError:  # pages that cost too much are not read
                break
            is_preview, following = tags.get(Tag.PhotometricInterpretation) in _SENSORS, tags.next
        self.fp.seek(at)
        return is_preview

    def _directory(self, head: bytes, offset: int) -> TiffImagePlugin.ImageFileDirectory_v2:
        assert self.fp is not None  # noqa: S101 - it is being opened
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        self.fp.seek(offset)
        tags.load(self.fp)
        return tags

    def _check_planes(self) -> None:
        """Makes Pillow's own reader understand planes. Each needs a letter in the raw mode, even an extra one."""
        if len(self._bits) == 1:
            self._is_in_planes, self.tag_v2[Tag.PlanarConfiguration] = False, 1
        elif self._photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE):
            raise UnsupportedImage(f"a TIFF of a kind that is not read: {self._description()}")
        elif self._extra and not any(self._extra):
            colours = max(1, len(self._bits) - len(self._extra))
            for tag in (Tag.StripOffsets, Tag.TileOffsets):
                if tag in self.tag_v2:
                    offsets = self.tag_v2[tag]
                    self.tag_v2[tag] = offsets[: len(offsets) * colours // len(self._bits)]

    def _description(self) -> str:
        colours = _PHOTOMETRICS.get(self._photometric, f"photometric interpretation {self._photometric}")
        bits = "+".join(map(str, self._bits[:8]))
        extra = f", extra samples {'+'.join(map(str, self._extra[:8]))}" if self._extra else ""
        planes = " in planes" if self._is_in_planes else ""
        planes += ", bits of a byte reversed" if self.tag_v2.get(Tag.FillOrder) == _LOW_BIT_FIRST else ""
        return f"{colours}, {bits} bits a pixel{planes}{extra}, compression {self.tag_v2.get(Tag.Compression, 1)}"

    def _choose_reader(self) -> None:
        """Makes libtiff read what Pillow's own reader of uncompressed pixels reads wrongly. libtiff swaps bytes."""
        raw_mode = ""
        if self._photometric == _YCBCR:
            raw_mode = "RGBX"
        elif self._is_in_planes and (self._bits[0] == 16 or self._extra[:1] == (_ASSOCIATED,)):
            raw_mode = f"{self.mode};16N" if self._bits[0] == 16 else self.mode
        if raw_mode and not self.use_load_libtiff:
            _check_places(offset for tag in (Tag.StripOffsets, Tag.TileOffsets) for offset in self._numbers(tag))
            self.use_load_libtiff = True
            self._read_all(raw_mode, "raw")
        elif self.use_load_libtiff and self.mode == "I":
            self._read_all("I;32N", self._compression)
        self._is_little_endian = sys.byteorder == "little" if self.use_load_libtiff else self.tag_v2.prefix == b"II"

    def _read_all(self, raw_mode: str, compression: str) -> None:
        arguments = (raw_mode, compression, False, self.tag_v2.offset)
        self.tile = [ImageFile._Tile("libtiff", (0, 0, *self._tile_size), 0, arguments)]

    def _grey(self) -> npt.NDArray[np.uint8]:
        samples = np.asarray(self)
        if self._bits[0] == 32 and not self._formats.intersection(_SIGNED):
            return (samples.view(np.uint32) >> 24).astype(np.uint8)
        if self._bits[0] == 12:
            scaled = samples.astype(np.uint32)
            scaled *= 255
            scaled += 2047
            scaled //= 4095
            return scaled.astype(np.uint8)
        return sixteen_to_eight(samples)

    def _with_alpha(self, grey: Image.Image, alpha: Image.Image) -> Image.Image:
        """Returns grey of 8 bits with its extra sample, which may be no alpha."""
        if self._extra[:1] == (_UNSPECIFIED,):
            return grey
        if self._extra[:1] == (_ASSOCIATED,):
            premultiplied = Image.merge("LA", (grey, alpha))
            return Image.frombytes("La", self.size, premultiplied.tobytes()).convert("LA")
        return Image.merge("LA", (grey, alpha))


def _check_places(offsets: Iterable[int]) -> None:
    if any(offset < _HEADER for offset in offsets):
        raise CorruptImage("a strip or a tile of the TIFF has no place in the file")


def _pixels(tags: TiffImagePlugin.ImageFileDirectory_v2) -> int:
    width, height = (max((0, *_numbers(tags.get(tag)))) for tag in (Tag.ImageWidth, Tag.ImageLength))
    return width * height


def _numbers(value: object) -> Sequence[int]:
    """Returns the whole numbers of a tag, whatever Pillow makes of it."""
    values = value if isinstance(value, tuple) else (value,)
    return [number for number in values if isinstance(number, int)]
