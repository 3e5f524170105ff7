"""Why a file is not read although its first bytes are those of an image."""

from collections.abc import Iterable

from transforms.images import bmp_kinds, png_chunks
from transforms.images.image_errors import CorruptImage, ImageError, UnknownFormat, UnsupportedImage

# Codings of JPEGs by their marker (ITU-T T.81, table B.1).
_CODINGS = {
    0xC0: "baseline",
    0xC1: "extended sequential",
    0xC2: "progressive",
    0xC3: "lossless",
    0xC5: "hierarchical sequential",
    0xC6: "hierarchical progressive",
    0xC7: "hierarchical lossless",
    0xC9: "arithmetic sequential",
    0xCA: "arithmetic progressive",
    0xCB: "arithmetic lossless",
    0xCD: "hierarchical arithmetic sequential",
    0xCE: "hierarchical arithmetic progressive",
    0xCF: "hierarchical arithmetic lossless",
    0xF7: "JPEG-LS",
}
# Those that Pillow reads. libjpeg reads lossless ones too, but at a reduced size it writes beyond the pixels' memory.
_READ = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_STANDALONE = (0x00, 0x01, *range(0xD0, 0xD8))

# The brands of files in the container of ISO 14496-12, by the format that they hold.
_AVIF = (b"avif", b"avis")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_NEEDED = frozenset((b"meta", b"mdat"))
_MAX_BOXES = 10_000

# How the raw files of cameras begin that are not TIFFs, and the brand of those in boxes.
_RAW = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")
_RAW_BRAND = b"crx "


def refused(encoded: bytes) -> UnsupportedImage | None:
    """Returns why a file must not reach libjpeg, None if it may."""
    error = _jpeg(encoded) if encoded.startswith(b"\xff\xd8") else None
    return error if isinstance(error, UnsupportedImage) else None


def unopened(encoded: bytes, formats: Iterable[str]) -> ImageError:
    """Returns why a file is not opened as any of the formats."""
    unknown = UnknownFormat(f"expected one of {', '.join(formats)}; the object begins with {encoded[:8]!r}")
    return _named(encoded) or unknown


def unread(encoded: bytes, error: Exception) -> ImageError:
    """Returns the meaning of an error that Pillow raises over an opened file."""
    named = _jpeg(encoded) if encoded.startswith(b"\xff\xd8") else None
    if named is None and (str(error).startswith("Unsupported ") or "has not been built in" in str(error)):
        return UnsupportedImage(str(error))
    return named or CorruptImage(f"{type(error).__name__}: {error}")


def _named(encoded: bytes) -> ImageError | None:
    """Returns what is wrong with a file whose first bytes are those of a known format."""
    if encoded.startswith(b"\xff\xd8\xff"):
        return _jpeg(encoded) or CorruptImage("the JPEG's header is broken")
    if encoded.startswith(png_chunks.SIGNATURE[:4]):
        return CorruptImage("the PNG is cut or broken before its pixels")
    if encoded.startswith(b"GIF8"):
        return CorruptImage("the GIF has no picture, or is cut before it")
    if encoded.startswith(bmp_kinds.SIGNATURE) and len(encoded) < bmp_kinds.LEAST_BYTES:
        return CorruptImage("the BMP is cut within its header")
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
        return CorruptImage("the WebP is cut or broken")
    if encoded.startswith(_RAW) or encoded[4:12] == b"ftyp" + _RAW_BRAND:
        return UnsupportedImage("a camera's raw file: expected the picture that was developed from it")
    if encoded[4:8] == b"ftyp":
        return _in_boxes(encoded)
    return None


def _jpeg(encoded: bytes) -> ImageError | None:
    """Returns what kind of JPEG is not read, or that its header is cut; None if it is of a kind that is read."""
    at = 2
    while at + 4 <= len(encoded):
        at = encoded.find(b"\xff", at)  # Pillow skips bytes between segments
        if at < 0 or at + 2 > len(encoded):
            break
        marker = encoded[at + 1]
        if marker in _CODINGS:
            frame = encoded[at + 4 : at + 10]
            if len(frame) < 6:
                break
            bits, components, coding = frame[0], frame[5], _CODINGS[marker]
            if not any(frame[1:3]):
                return UnsupportedImage("a JPEG whose height stands behind its first scan (DNL) is not read")
            if marker in _READ and bits == 8 and components in (1, 3, 4):
                return None
            return UnsupportedImage(f"a JPEG with {components} components of {bits} bits, {coding}, is not read")
        if marker in (0xDA, 0xD9):
            return None
        at += 1 if marker == 0xFF else 2
        if marker not in (0xFF, 0xD8, *_STANDALONE):
            at += int.from_bytes(encoded[at : at + 2])
    return CorruptImage("the JPEG is cut within its header")


def _in_boxes(encoded: bytes) -> ImageError | None:
    """Names the content of a file of boxes, each a length, a type and content."""
    size = int.from_bytes(encoded[:4])
    brands = {encoded[at : at + 4] for at in (8, *range(16, min(size, 256), 4))}
    name = "AVIF" if brands.intersection(_AVIF) else "HEIC" if brands.intersection(_HEIC) else None
    if name is None:
        return None
    at = 0
    kinds: list[bytes] = []
    while at + 8 <= len(encoded) and len(kinds) < _MAX_BOXES:
        size = int.from_bytes(encoded[at : at + 4])
        kinds.append(encoded[at + 4 : at + 8])
        if size == 1:
            size = int.from_bytes(encoded[at + 8 : at + 16])
        at = max(at + 8, at + size if size else len(encoded))
    if at != len(encoded) or not _NEEDED.issubset(kinds):
        return CorruptImage(f"the {name} is cut or broken")
    if name == "HEIC":
        return UnsupportedImage("HEIC needs an extra: pip install '.[heic]'")
    return UnsupportedImage("an AVIF of a kind that libavif does not read, or its header is broken")
