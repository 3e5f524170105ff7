"""Opens files by their content and loads their pixels, format by format."""

import io
from collections.abc import Iterable

from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.WebPImagePlugin import WebPImageFile

try:
    import pillow_heif
except ImportError:  # HEIC is an extra: pip install '.[heic]'
    pillow_heif = None  # type: ignore[assignment]

from transforms.images import (
    bmp_kinds,
    bounds,
    fast_jpeg,
    jpeg_damage,
    jpeg_header,
    png_chunks,
    samples,
    tiff_damage,
    tiff_kinds,
    unread,
)
from transforms.images.image_errors import CorruptImage

bounds.bound_directories()
tiff_kinds.add_kinds()

# Pillow's names of the formats that are opened → the name in `image/format`. No other format is opened, whatever the
# name of a file: Pillow would start Ghostscript for an EPS. Phones write MPO, a JPEG with further pictures behind it.
FORMATS = {
    "JPEG": "jpeg",
    "MPO": "jpeg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "TIFF": "tiff",
    "BMP": "bmp",
    "AVIF": "avif",
}
if pillow_heif is not None:
    pillow_heif.register_heif_opener()
    FORMATS["HEIF"] = "heic"

_ANIMATION = 0x02  # of the flags of a WebP (RFC 9649, section 2.7.1)

# Pillow's JPEG plugin recognizes MPO. It is not a format that can be requested.
_OPENED = [name for name in FORMATS if name != "MPO"]


def opened(encoded: bytes, png: png_chunks.Picture | None) -> Image.Image:
    """Returns a file's first picture, of which the header alone was read; `png` are the parts of a PNG.

    Raises:
      UnidentifiedImageError: if it is in none of FORMATS.
      ImageError: if it is of a kind that is not read, or cut. Pillow's other errors: if it is broken.
    """
    if png is not None:
        return Image.open(io.BytesIO(png.plain), formats=("PNG",))
    if encoded.startswith(b"GIF8"):
        return bounds.open_gif(encoded)
    if tiff_kinds.is_tiff(encoded):
        return tiff_kinds.open_tiff(encoded)
    if encoded.startswith(bmp_kinds.SIGNATURE) and len(encoded) >= bmp_kinds.LEAST_BYTES:
        return bmp_kinds.open_bmp(encoded)
    if (error := unread.refused(encoded)) is not None:
        raise error
    image = Image.open(bounds.file_of(encoded), formats=_OPENED)
    if isinstance(image, WebPImageFile) and encoded.startswith(b"VP8X", 12) and encoded[20] & _ANIMATION:
        image._mode = image.rawmode = "RGBA"  # the canvas is transparent, although the file may say that it is opaque
    return image


def loaded(image: Image.Image, encoded: bytes, stored: tuple[int, int], png: png_chunks.Picture | None) -> Image.Image:
    """Returns the pixels of an opened image as L, LA, RGB, RGBA or CMYK, none of which Pillow has made up.

    Args:
      image: what `opened` has returned. A JPEG may have a draft.
      encoded: the bytes of its file.
      stored: its (width, height) in the file.
      png: the parts of a PNG.

    Raises:
      CorruptImage: if pixels are missing or wrong.
      UnsupportedColour: if the samples have no defined conversion.
    """
    if isinstance(image, JpegImageFile):
        return _jpeg(image, encoded, stored)
    if isinstance(image, GifImageFile):
        extents = image.tile[0].extents if image.tile else None
        image.load()
        return samples.on_canvas(image, extents or (0, 0, *image.size))
    if isinstance(image, tiff_kinds.Tiff):
        return _tiff(image, encoded)
    image.load()
    if isinstance(image, bmp_kinds.Bmp):
        return samples.plain(image.plain())
    if png is not None:
        return _png(image, png)
    if image.format == "HEIF" and image.mode == "RGBA" and "chroma" not in image.info:  # it is grey with alpha
        return Image.merge("LA", (image.getchannel("R"), image.getchannel("A")))
    return samples.plain(image)


def icc_profile(image: Image.Image, png: png_chunks.Picture | None) -> bytes | None:
    """Returns the bytes of an opened image's colour profile."""
    if png is not None:
        return png.icc_profile
    if isinstance(image, JpegImageFile) and image.icclist:  # behind the frame, where Pillow does not join the parts
        return jpeg_header.profile_of(image.icclist)
    if image.mode == "LAB":  # its own definition of colours has made it sRGB
        return None
    return image.info.get("icc_profile")


def _tiff(image: tiff_kinds.Tiff, encoded: bytes) -> Image.Image:
    image.check_parts()
    if image.is_converted():
        tiff_damage.check(image.tag_v2, encoded)
    image.load()
    _check_jpegs(image.jpegs(encoded))
    return samples.plain(image.plain())


def _jpeg(image: JpegImageFile, encoded: bytes, stored: tuple[int, int]) -> Image.Image:
    pixels = fast_jpeg.unresized(encoded, stored, image.size, image.mode)
    if pixels is not None:
        raw_mode = image.tile[0].args[0]  # type: ignore[index]  # CMYK may be inverted
        return Image.frombuffer(image.mode, image.size, pixels, "raw", raw_mode, 0, 1)
    image.load()
    _check_jpegs([encoded])
    if samples.ends_in_grey(image, stored[0] // image.width) and jpeg_damage.has_rare_sampling(encoded):
        raise CorruptImage("the JPEG ends in the grey that libjpeg puts in place of missing data")
    return samples.plain(image)


def _check_jpegs(jpegs: Iterable[bytes]) -> None:
    for jpeg in jpegs:
        damage = jpeg_damage.damage(jpeg)
        if damage is not None:
            raise CorruptImage(damage)


def _png(image: Image.Image, png: png_chunks.Picture) -> Image.Image:
    # Rows that were never written are zero. To count those of each PNG would take a third of its time.
    if (png.is_interlaced or samples.is_last_row_blank(image)) and not png_chunks.has_all_rows(png):
        raise CorruptImage("the PNG has fewer rows than its header says")
    return samples.plain_png(image, png)
