"""Reads the chunks of a PNG as libpng does, and passes only those that make the picture on to Pillow.

Pillow refuses an image if any chunk but the pixels' has a wrong checksum, if it has over 1 MiB of text, or if a chunk
is too short. libpng, and so browsers, ignore a broken ancillary chunk and refuse a broken critical one. If rows are
missing although the compressed stream is complete, Pillow does not notice.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from transforms.images.image_errors import CorruptImage, UnsupportedImage

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# The most chunks of a file: 256 MiB in chunks of 8 KiB, as libpng writes them, are 32,768.
_MAX_CHUNKS = 125_000

# Bytes of the largest colour profile that is read, and of a text that may hold an orientation.
MAX_PROFILE_BYTES = 4 << 20
_MAX_TEXT_BYTES = 1 << 20

# Texts in which programs write EXIF and XMP.
_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")

# Samples of a pixel by colour type: grey, RGB, palette, grey and alpha, RGB and alpha (PNG, section 11.2.2).
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_GREY = (0, 4)
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}

# The passes of Adam7: x and y of the first pixel, and the steps between pixels (PNG, section 8.2).
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

_END = b"\0\0\0\0IEND\xaeB`\x82"

_PIECE_BYTES = 1 << 16


class Picture(NamedTuple):
    """The parts of a PNG.

    Attributes:
      size: (width, height) in pixels.
      depth: bits a sample.
      colour_type: one of _SAMPLES.
      is_interlaced: whether the pixels come in the seven passes of Adam7.
      transparent: the samples of the colour that is transparent, if there is one: one of grey, three of RGB.
      plain: a file with only the header, palette, transparency, pixels, EXIF and XMP.
      icc_profile: the bytes of the colour profile, None if there is none that can be read.
      pixels: the parts of the compressed pixels.
    """

    size: tuple[int, int]
    depth: int
    colour_type: int
    is_interlaced: bool
    transparent: tuple[int, ...] | None
    plain: bytes
    icc_profile: bytes | None
    pixels: Sequence[memoryview]

    def is_grey(self) -> bool:
        return self.colour_type in _GREY


def size(encoded: bytes) -> tuple[int, int] | None:
    """Returns (width, height) in the header of a PNG, and None for another file."""
    if not encoded.startswith(SIGNATURE) or encoded[12:16] != b"IHDR" or len(encoded) < 24:
        return None
    return int.from_bytes(encoded[16:20]), int.from_bytes(encoded[20:24])


def parse(encoded: bytes) -> Picture:
    """Reads all chunks of a PNG.

    Raises:
      CorruptImage: if a critical chunk is broken, cut or out of place, or there are too many chunks.
      UnsupportedImage: if it is Apple's variant.
    """
    header: tuple[int, int, int, int, int] | None = None
    icc_profile: bytes | None = None
    kept: dict[bytes, memoryview] = {}
    pixels: list[memoryview] = []
    pixel_chunks: list[memoryview] = []
    previous = b""
    has_palette = False
    for kind, chunk, is_whole in _chunks(memoryview(encoded)):
        content = chunk[8:-4]
        is_critical = not kind[0] & 0x20
        if kind == b"CgBI" and header is None:
            raise UnsupportedImage("a PNG in Apple's variant for its phones, which only their own software reads")
        if is_critical and not is_whole:
            raise CorruptImage(f"the checksum of the PNG's chunk {kind.decode()} is wrong")
        if header is None:
            header = _header(kind, content)
            kept[kind] = chunk
        elif kind == b"IDAT":
            if not pixels or previous == b"IDAT":  # those after another chunk are no pixels to libpng
                pixels.append(content)
                pixel_chunks.append(chunk)
        elif kind == b"PLTE":
            has_palette = True
            if header[3] == 3 and not pixels:
                _check_palette(content, kind in kept)
                kept[kind] = chunk
        elif kind == b"IEND":
            break
        elif is_critical:
            raise CorruptImage(f"the PNG has a chunk {kind.decode()}, which is critical and not known")
        elif is_whole and kind == b"tRNS":
            if not pixels and _is_transparency(content, header[3], kept):
                kept.setdefault(kind, chunk)
        elif is_whole and kind == b"iCCP":
            if not pixels and not has_palette and icc_profile is None:
                icc_profile = _profile(bytes(content), is_grey=header[3] in _GREY)
        elif is_whole and (kind == b"eXIf" or _is_orientation(kind, content)):
            kept.setdefault(kind + bytes(content[:4]), chunk)
        previous = kind
    if header is None or not pixels:
        raise CorruptImage("the PNG ends before its pixels")
    width, height, depth, colour_type, interlace = header
    transparent = None
    if b"tRNS" in kept and colour_type != 3:
        transparent = tuple(value for (value,) in struct.iter_unpack(">H", kept[b"tRNS"][8:-4]))
    head = [kept.pop(kind, b"") for kind in (b"IHDR", b"PLTE", b"tRNS")]
    plain = b"".join((SIGNATURE, *head, *kept.values(), *pixel_chunks, _END))
    return Picture((width, height), depth, colour_type, bool(interlace), transparent, plain, icc_profile, pixels)


def has_all_rows(picture: Picture) -> bool:
    """Returns whether the compressed pixels are as many as the header says."""
    bits = picture.depth * _SAMPLES[picture.colour_type]
    expected = sum((1 + (width * bits + 7) // 8) * height for width, height in _passes(picture))
    stream = zlib.decompressobj()
    for pixels in picture.pixels:
        part: memoryview | bytes = pixels
        while part and expected > 0 and not stream.eof:
            expected -= len(stream.decompress(part, _PIECE_BYTES))
            part = stream.unconsumed_tail
    while expected > 0 and not stream.eof:
        piece = stream.decompress(b"", _PIECE_BYTES)
        if not piece:
            break
        expected -= len(piece)
    return expected <= 0


def _passes(picture: Picture) -> Iterator[tuple[int, int]]:
    """Yields the (width, height) of each part whose rows are stored one after the other."""
    width, height = picture.size
    if not picture.is_interlaced:
        yield width, height
        return
    for left, top, across, down in _PASSES:
        size = (width - left + across - 1) // across, (height - top + down - 1) // down
        if min(size) > 0:
            yield size


def _chunks(encoded: memoryview) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Yields the type of each chunk, the chunk, and whether its checksum is right.

    Ends without an error if the file is broken after its complete pixels.
    """
    at, has_pixels = len(SIGNATURE), False
    for _ in range(_MAX_CHUNKS):
        head = bytes(encoded[at : at + 8])
        kind = head[4:]
        if len(kind) < 4 or not (kind.isalpha() and kind.isascii()):
            if has_pixels:
                return
            raise CorruptImage("the PNG is cut or broken before its pixels")
        end = at + 8 + int.from_bytes(head[:4])
        checksum = encoded[end : end + 4]
        if len(checksum) < 4:
            if has_pixels and kind != b"IDAT":
                return
            raise CorruptImage(f"the PNG is cut within its chunk {kind.decode()}")
        yield kind, encoded[at : end + 4], zlib.crc32(encoded[at + 4 : end]) == int.from_bytes(checksum)
        has_pixels = has_pixels or kind == b"IDAT"
        at = end + 4
    raise CorruptImage("the PNG consists of too many parts")


def _header(kind: bytes, content: memoryview) -> tuple[int, int, int, int, int]:
    """Returns width, height, depth, colour type and interlacing."""
    if kind != b"IHDR" or len(content) != 13:
        raise CorruptImage("the PNG does not begin with a header of 13 bytes")
    width, height, depth, colour_type, compression, filters, interlace = struct.unpack(">IIBBBBB", content)
    if not (width and height) or depth not in _DEPTHS.get(colour_type, ()) or compression or filters or interlace > 1:
        raise CorruptImage(f"the PNG's header has values that are not defined: {content.hex(' ')}")
    return width, height, depth, colour_type, interlace


def _is_transparency(content: memoryview, colour_type: int, kept: dict[bytes, memoryview]) -> bool:
    if colour_type == 3:
        return b"PLTE" in kept and 0 < len(content) <= (len(kept[b"PLTE"]) - 12) // 3
    return len(content) == {0: 2, 2: 6}.get(colour_type)


def _is_orientation(kind: bytes, view: memoryview) -> bool:
    """Returns whether a chunk is a text that may hold an orientation, and is not too large."""
    if kind not in (b"tEXt", b"zTXt", b"iTXt") or not bytes(view[:22]).startswith(_TEXTS):
        return False
    content = bytes(view)
    if kind == b"tEXt":
        return len(content) <= _MAX_TEXT_BYTES
    _, rest = content.split(b"\0", 1)
    if kind == b"zTXt":
        return rest[:1] == b"\0" and _inflated(rest[1:], _MAX_TEXT_BYTES) is not None
    if rest[:1] == b"\0":
        return len(content) <= _MAX_TEXT_BYTES
    parts = rest[2:].split(b"\0", 2)
    return len(parts) == 3 and rest[1:2] == b"\0" and _inflated(parts[2], _MAX_TEXT_BYTES) is not None


def _check_palette(content: memoryview, is_second: bool) -> None:
    if is_second or not content or len(content) % 3:
        raise CorruptImage("the PNG has two palettes, or one that does not consist of colours")


def _profile(content: bytes, is_grey: bool) -> bytes | None:
    """Returns the colour profile in a chunk: a name of 1 to 79 bytes, zero, the method zero, compressed bytes.

    A profile for RGB is not allowed in a grey picture (PNG, section 11.3.2.3).
    """
    name, _, rest = content[:81].partition(b"\0")
    if not 1 <= len(name) <= 79 or rest[:1] != b"\0":
        return None
    profile = _inflated(content[len(name) + 2 :], MAX_PROFILE_BYTES)
    return None if is_grey and profile is not None and profile[16:20] == b"RGB " else profile


def _inflated(compressed: bytes, most: int) -> bytes | None:
    """Returns the bytes of a zlib stream, None if it is broken, incomplete or has more than `most` bytes."""
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(compressed, most + 1)
    except zlib.error:
        return None
    return inflated if stream.eof and len(inflated) <= most else None
