"""Encoded bytes → uint8 RGB pixels of one size: formats, orientation, colour, resize. No Beam, no TensorFlow.

Each step works on as few pixels as possible. First the header is checked. A JPEG is decoded at 1/2, 1/4 or 1/8 of its
size if that suffices. The image is resized and turned upright. Only then is it converted to sRGB and put over white.
"""

import math
import traceback
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from transforms.images import colour, fast_jpeg, jpeg_header, memory, png_chunks, reader, unread
from transforms.images.image_errors import CorruptImage as CorruptImage  # for whoever catches the errors of `decode`
from transforms.images.image_errors import EmptyImage, ImageError, OutOfMemory, TooManyPixels
from transforms.images.image_errors import UnknownFormat as UnknownFormat
from transforms.images.image_errors import UnsupportedColour as UnsupportedColour
from transforms.images.image_errors import UnsupportedImage as UnsupportedImage
from transforms.images.reader import FORMATS
from transforms.images.resizing import Resizing, centre

# Pillow itself refuses to open larger images, in any format.
MAX_PIXELS_LIMIT = 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else 178_956_970
MAX_PIXELS_DEFAULT = MAX_PIXELS_LIMIT // 2

# EXIF 2.32, tag 0x0112 → how Pillow's ImageOps.exif_transpose turns the image upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = (5, 6, 7, 8)

# How many source pixels a draft keeps for each pixel of the result, along each axis. 1 is the fastest and aliases. 2
# leaves the last halving to the antialiased resize, as Pillow's own `thumbnail` does. On 16 photographs, the cosine
# between vectors of efficientnet_lite0 from a draft and from a full decode is at least 0.9954 with 1, 0.9992 with 2.
_DRAFT_GAP = 2.0

# The most pixels that a resize may hold between its two passes, if the other order needs fewer.
_MAX_BETWEEN_PASSES = 1 << 24

_Out: TypeAlias = npt.NDArray[np.uint8] | None


class DecodedPixels(NamedTuple):
    """Pixels, uint8 (height, width, 3) in the requested size; format, height and width of the image as stored."""

    pixels: npt.NDArray[np.uint8]
    format: str
    height: int
    width: int


def check_settings(size: tuple[int, int], max_pixels: int) -> None:
    """Raises ValueError unless these are valid arguments of `decode`."""
    _check_size_of_result(size)
    if max_pixels < 1:
        raise ValueError(f"max_pixels={max_pixels!r}: expected a number from 1")


def _check_size_of_result(size: tuple[int, int]) -> None:
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size={size!r}: expected (height, width) in pixels, such as (224, 224)")


def decode(
    encoded: bytes,
    size: tuple[int, int],
    resizing: Resizing | str = "stretch",
    max_pixels: int = MAX_PIXELS_DEFAULT,
    out: npt.NDArray[np.uint8] | None = None,
) -> DecodedPixels:
    """Decodes one image to RGB and resizes it, by default antialiased bilinear.

    Large images wait for their turn: see `memory.Budget`.

    Args:
      encoded: a file's bytes, in one of FORMATS. The first frame of an animation is used.
      size: (height, width) of the result, in pixels.
      resizing: how it is brought to that size; a name of resizing.RESIZE_MODES for the default of that mode.
      max_pixels: the most pixels that the header may announce; checked before any pixel is decoded.
      out: the array to write the pixels into, C-contiguous uint8 (height, width, 3), such as one image of a batch. It
        becomes the `pixels` of the result. After an error its content is undefined.

    Raises:
      ImageError: one of its subclasses. Any other error that Pillow raises over a broken image becomes CorruptImage.
      ValueError: if another argument than `encoded` is invalid.
    """
    resizing = Resizing.of(resizing)
    _check_size_of_result(size)
    if out is not None and not (out.shape == (*size, 3) and out.dtype == np.uint8 and out.flags.c_contiguous):
        raise ValueError(f"out={out.dtype} {out.shape}: expected C-contiguous uint8 {(*size, 3)}")
    if not encoded:
        raise EmptyImage("empty object: expected an encoded image")
    try:
        try:
            return _in_turn(encoded, size, resizing, max_pixels, out)
        except MemoryError:  # perhaps because of the other images that are being decoded
            return _alone(encoded, size, resizing, max_pixels, out)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise unread.unopened(encoded, dict.fromkeys(FORMATS.values())) from error
    except Image.DecompressionBombError as error:
        raise TooManyPixels(f"expected at most {max_pixels} pixels (max_pixels): {error}") from error
    except MemoryError as error:
        raise OutOfMemory("there is not enough memory to decode the image, not even alone") from error
    except Exception as error:
        raise unread.unread(encoded, error) from error


def _in_turn(encoded: bytes, size: tuple[int, int], resizing: Resizing, max_pixels: int, out: _Out) -> DecodedPixels:
    with memory.Turn(memory.BUDGET) as turn:
        try:
            return _open(encoded, size, resizing, max_pixels, out, turn)
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # they hold pixels, which must not outlive the turn
            raise


def _alone(encoded: bytes, size: tuple[int, int], resizing: Resizing, max_pixels: int, out: _Out) -> DecodedPixels:
    with memory.Turn(memory.BUDGET) as turn:
        turn.wait(memory.BUDGET.total)
        return _open(encoded, size, resizing, max_pixels, out, turn)


def _open(
    encoded: bytes, size: tuple[int, int], resizing: Resizing, max_pixels: int, out: _Out, turn: memory.Turn
) -> DecodedPixels:
    header = jpeg_header.parse(encoded)
    if header is not None and math.prod(header.size) > MAX_PIXELS_DEFAULT:
        header = None  # for Pillow to warn of it or to refuse it
    if header is not None and not resizing.is_exact:
        decoded = _decode_plain_jpeg(header, encoded, size, resizing, max_pixels, out, turn)
        if decoded is not None:
            return decoded
    # Another library in this process may have set it. Pillow would then fill what is missing with grey.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    if (png_size := png_chunks.size(encoded)) is not None:
        _check_size(png_size, max_pixels)
    png = png_chunks.parse(encoded) if encoded.startswith(png_chunks.SIGNATURE) else None
    with reader.opened(encoded, png) as image:
        return _decode(image, encoded, size, resizing, max_pixels, out, turn, header is not None, png)


def _decode_plain_jpeg(
    header: jpeg_header.Header,
    encoded: bytes,
    size: tuple[int, int],
    resizing: Resizing,
    max_pixels: int,
    out: _Out,
    turn: memory.Turn,
) -> DecodedPixels | None:
    """Decodes a JPEG without Pillow's parser. Returns None if Pillow has to decode it or report its error."""
    _check_size(header.size, max_pixels)
    target = _as_stored((size[1], size[0]), header.orientation)
    reduced = _reduced(header.size, target, resizing)
    box, inner = resizing.geometry(reduced, target)
    turn.wait(memory.jpeg_bytes(header.size, header.samplings, header.is_one_scan, reduced, box, inner))
    has_profile = header.icc_profile is not None and colour.profile(header.icc_profile) is not None
    is_finished = header.orientation not in _UPRIGHT and not has_profile
    pixels = fast_jpeg.decode(
        encoded, header.size, reduced, box, inner, out if is_finished and inner == target else None
    )
    if pixels is None:
        return None
    if not is_finished:
        image = _turned(Image.fromarray(pixels), header.orientation)
        pixels = np.asarray(colour.over_white(image, header.icc_profile))
    return DecodedPixels(_placed(pixels, size, out), FORMATS["JPEG"], header.size[1], header.size[0])


def _decode(
    image: Image.Image,
    encoded: bytes,
    size: tuple[int, int],
    resizing: Resizing,
    max_pixels: int,
    out: _Out,
    turn: memory.Turn,
    is_plain_jpeg: bool,
    png: png_chunks.Picture | None,
) -> DecodedPixels:
    width, height = _stored_size(image)
    _check_size((width, height), max_pixels)
    upright = (size[1], size[0])
    # Only of a JPEG is the orientation known before its pixels: `getexif` loads a PNG.
    is_jpeg = isinstance(image, JpegImageFile)
    orientation = _orientation(image) if is_jpeg else 1
    if is_jpeg and not resizing.is_exact:
        _draft(image, _as_stored(upright, orientation), resizing)
    box, inner = resizing.geometry(image.size, _as_stored(upright, orientation))
    turn.wait(memory.decoding_bytes(image, encoded, (width, height), box, inner))
    fast = None
    # Of a plain JPEG it was tried.
    if is_jpeg and image.mode == "RGB" and not is_plain_jpeg and not resizing.is_exact:
        fast = fast_jpeg.decode(encoded, (width, height), image.size, box, inner)
    if fast is None:
        pixels = reader.loaded(image, encoded, (width, height), png)
        if not is_jpeg:
            orientation = _orientation(image)
        box, inner = resizing.geometry(pixels.size, _as_stored(upright, orientation))
        pixels = _resized(pixels, box, inner, resizing.filter)
    else:
        pixels = Image.fromarray(fast)
    pixels = colour.over_white(_cut(_turned(pixels, orientation), upright), reader.icc_profile(image, png))
    return DecodedPixels(_placed(np.asarray(pixels), size, out), FORMATS[str(image.format)], height, width)


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _placed(pixels: npt.NDArray[np.uint8], size: tuple[int, int], out: _Out) -> npt.NDArray[np.uint8]:
    """Returns the pixels in an array of the (height, width), with black around them: in `out` if there is one."""
    height, width, _ = pixels.shape
    if pixels is out or (out is None and (height, width) == size):
        return pixels
    if out is None:
        out = np.zeros((*size, 3), np.uint8)
    elif (height, width) != size:
        out[...] = 0
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    out[top : top + height, left : left + width] = pixels
    return out


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise TooManyPixels(f"expected at most {max_pixels} pixels (max_pixels), the header says {size[0]}x{size[1]}")


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Returns (width, height) as stored. For a turned TIFF, Pillow swaps them."""
    if isinstance(image, TiffImageFile) and image.tag_v2.get(ExifTags.Base.Orientation) in _TURNED:
        return image.size[1], image.size[0]
    return image.size


def _as_stored(upright: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Returns the (width, height) that turns into `upright` under an EXIF orientation."""
    return upright[::-1] if orientation in _TURNED else upright


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - the pixels are decoded without the EXIF block, and nothing else reads it
        return 1


def _draft(image: Image.Image, target: tuple[int, int], resizing: Resizing) -> None:
    """Lets a JPEG decode at a reduced size, at least `_DRAFT_GAP` times the size that the resize needs."""
    image.draft("RGB", _draft_size(image.size, target, resizing))


def _reduced(stored: tuple[int, int], target: tuple[int, int], resizing: Resizing) -> tuple[int, int]:
    """Returns the (width, height) to which `_draft` reduces a JPEG."""
    least = _draft_size(stored, target, resizing)
    scale = min(stored[0] // least[0], stored[1] // least[1])
    reduction = next((reduction for reduction in (8, 4, 2) if scale >= reduction), 1)
    return -(-stored[0] // reduction), -(-stored[1] // reduction)


def _draft_size(stored: tuple[int, int], target: tuple[int, int], resizing: Resizing) -> tuple[int, int]:
    (left, top, right, bottom), inner = resizing.geometry(stored, target)
    scale = _DRAFT_GAP * max(inner[0] / (right - left), inner[1] / (bottom - top))
    return max(1, math.ceil(stored[0] * scale)), max(1, math.ceil(stored[1] * scale))


def _resized(
    image: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int], by: Image.Resampling
) -> Image.Image:
    """Resizes the part of an image in the box."""
    left, top, right, bottom = box
    # Pillow resizes along the rows first: a line of 1×10,000,000 pixels would be 9 GB in between, 224 pixels wide.
    if size[0] * (bottom - top) > max(_MAX_BETWEEN_PASSES, size[1] * (right - left)):
        image = image.resize((image.width, size[1]), by, box=(0, top, image.width, bottom))
        top, bottom = 0, size[1]
    return image.resize(size, by, box=(left, top, right, bottom))


def _cut(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Returns the centre of an image along the axes on which it is larger than the (width, height)."""
    width, height = min(image.width, size[0]), min(image.height, size[1])
    if image.size == (width, height):
        return image
    left, top = centre(image.size, (width, height))
    return image.crop((left, top, left + width, top + height))
