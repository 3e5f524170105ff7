"""Opens files by their content and loads their pixels, format by format."""

import contextlib
import io
from collections.abc import Iterable, Iterator

from PIL import ExifTags, Image
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile
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
    orientation,
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
# name of a file: Pillow would start Ghostscript for an EPS. Phones write MPO, a JPEG with further pictures after it.
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


class Opened:
    """A file's first picture, of which only the header was read.

    Attributes:
      image: Pillow's picture. A JPEG may get a draft before it is loaded.
      size: its (width, height) in the file.
      header: of a JPEG, as Pillow has read it; None for other formats.
    """

    def __init__(self, image: Image.Image, encoded: bytes, png: png_chunks.Picture | None):
        self.image = image
        self.size = _stored_size(image)
        self.header = _jpeg_header(image, encoded) if isinstance(image, JpegImageFile) else None
        self._encoded = encoded
        self._png = png

    @property
    def format(self) -> str:
        """One of the values of FORMATS."""
        return FORMATS[str(self.image.format)]

    def orientation(self) -> int:
        """Returns the EXIF orientation, 1 if there is none. This loads a PNG."""
        return self.header.orientation if self.header else orientation.read(self.image)

    def icc_profile(self) -> bytes | None:
        """Returns the bytes of the colour profile."""
        if self._png is not None:
            return self._png.icc_profile
        if self.header is not None:
            return self.header.icc_profile
        if self.image.mode == "LAB":  # already converted to sRGB
            return None
        return self.image.info.get("icc_profile")

    def load(self) -> Image.Image:
        """Returns the pixels as L, LA, RGB, RGBA or CMYK. None of them is made up by Pillow.

        Raises:
          CorruptImage: if pixels are missing or wrong.
          UnsupportedColour: if the samples have no defined conversion.
        """
        image = self.image
        if isinstance(image, JpegImageFile):
            return _jpeg(image, self._encoded, self.size)
        if isinstance(image, GifImageFile):
            extents = image.tile[0].extents if image.tile else None
            image.load()
            return samples.on_canvas(image, extents or (0, 0, *image.size))
        if isinstance(image, tiff_kinds.Tiff):
            return _tiff(image, self._encoded)
        image.load()
        if isinstance(image, bmp_kinds.Bmp):
            return samples.plain(image.plain())
        if self._png is not None:
            return _png(image, self._png)
        if image.format == "HEIF" and image.mode == "RGBA" and "chroma" not in image.info:  # it is grey with alpha
            return Image.merge("LA", (image.getchannel("R"), image.getchannel("A")))
        return samples.plain(image)


@contextlib.contextmanager
def opened(encoded: bytes) -> Iterator[Opened]:
    """Opens a file for the `with` block.

    Raises:
      UnidentifiedImageError: if it is in none of FORMATS.
      ImageError: if it is of a kind that is not read, or cut. Pillow's other errors: if it is broken.
    """
    png = png_chunks.parse(encoded) if encoded.startswith(png_chunks.SIGNATURE) else None
    with _image(encoded, png) as image:
        yield Opened(image, encoded, png)


def _image(encoded: bytes, png: png_chunks.Picture | None) -> Image.Image:
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
    image = Image.open(io.BytesIO(encoded), formats=_OPENED)
    if isinstance(image, WebPImageFile) and encoded.startswith(b"VP8X", 12) and encoded[20] & _ANIMATION:
        image._mode = image.rawmode = "RGBA"  # the canvas is transparent, although the file may say that it is opaque
    return image


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Returns (width, height) as stored. For a turned TIFF, Pillow swaps them."""
    if isinstance(image, TiffImageFile) and image.tag_v2.get(ExifTags.Base.Orientation) in orientation.TURNED:
        return image.size[1], image.size[0]
    return image.size


def _jpeg_header(image: JpegImageFile, encoded: bytes) -> jpeg_header.Header:
    profile = image.info.get("icc_profile")
    if image.icclist:  # after the frame, where Pillow does not join the parts
        profile = jpeg_header.profile_of(image.icclist)
    samplings = [(across, down) for _, across, down, _ in image.layer]
    return jpeg_header.Header(image.size, orientation.read(image), profile, samplings, _is_one_scan(image, encoded))


def _is_one_scan(image: JpegImageFile, encoded: bytes) -> bool:
    """Returns whether a JPEG is sequential, with all components in one scan. Pillow has read on to the first scan."""
    if image.info.get("progressive") or image.format != "JPEG" or image.fp is None:
        return False
    start = image.fp.tell() - 8 - 2 * image.layers
    return encoded[max(0, start) : start + 2] == b"\xff\xda"


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
    # Rows that were never written are zero. Counting the rows of every PNG would take a third of the decoding time.
    if (png.is_interlaced or samples.is_last_row_blank(image)) and not png_chunks.has_all_rows(png):
        raise CorruptImage("the PNG has fewer rows than its header says")
    return samples.plain_png(image, png)
