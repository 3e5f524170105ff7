"""Encoded bytes → uint8 RGB pixels of one size: formats, orientation, colour, resize. No Beam, no TensorFlow.

Each step works on as few pixels as possible. First the header is checked. A JPEG is decoded at 1/2, 1/4 or 1/8 of its
size if that suffices. The image is resized and turned upright. Only then is it converted to sRGB and put over white.
"""

import math
import traceback
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from transforms.images import colour, fast_jpeg, jpeg_header, memory, orientation, png_chunks, reader, unread
from transforms.images.decode_settings import MAX_PIXELS_DEFAULT, DecodeSettings
from transforms.images.image_errors import CorruptImage as CorruptImage  # for callers that catch the errors of `decode`
from transforms.images.image_errors import EmptyImage, ImageError, OutOfMemory, TooManyPixels
from transforms.images.image_errors import UnknownFormat as UnknownFormat
from transforms.images.image_errors import UnsupportedColour as UnsupportedColour
from transforms.images.image_errors import UnsupportedImage as UnsupportedImage
from transforms.images.reader import FORMATS
from transforms.images.resizing import Resizing, as_resizing, centre

# The most pixels that a resize may hold between its two passes, if the other order needs fewer.
_MAX_BETWEEN_PASSES = 1 << 24


class DecodedPixels(NamedTuple):
    """Pixels, uint8 (height, width, 3) in the requested size; format, height and width of the image as stored."""

    pixels: npt.NDArray[np.uint8]
    format: str
    height: int
    width: int


def decode(
    encoded: bytes,
    size: tuple[int, int],
    resizing: Resizing | str = "stretch",
    max_pixels: int = MAX_PIXELS_DEFAULT,
) -> DecodedPixels:
    """Decodes one image to RGB and resizes it, by default antialiased bilinear.

    Args:
      encoded: a file's bytes, in one of FORMATS. The first frame of an animation is used.
      size, max_pixels: see `DecodeSettings`.
      resizing: how the image is brought to that size; a name of resizing.RESIZE_MODES for the default of that mode.

    Raises:
      As `decode_into`.
    """
    settings = DecodeSettings(size, as_resizing(resizing), max_pixels)
    return decode_into(encoded, settings, np.empty((*size, 3), np.uint8))


def decode_into(encoded: bytes, settings: DecodeSettings, out: npt.NDArray[np.uint8]) -> DecodedPixels:
    """Decodes one image into an array, such as one image of a batch. Large images wait for their turn.

    Args:
      encoded: a file's bytes, in one of FORMATS. The first frame of an animation is used.
      settings: what it is decoded to.
      out: the array to write the pixels into, C-contiguous uint8 (height, width, 3). It becomes the `pixels` of the
        result. After an error its content is undefined.

    Raises:
      ImageError: one of its subclasses. Any other error that Pillow raises over a broken image becomes CorruptImage.
      ValueError: if the pixels do not fit into `out`.
    """
    shape = (*settings.size, 3)
    if not (out.shape == shape and out.dtype == np.uint8 and out.flags.c_contiguous):
        raise ValueError(f"out={out.dtype} {out.shape}: expected C-contiguous uint8 {shape}")
    if not encoded:
        raise EmptyImage("empty object: expected an encoded image")
    try:
        try:
            return _decode_in_turn(encoded, settings, out)
        except MemoryError:  # perhaps because of the other images that are being decoded
            return _decode_in_turn(encoded, settings, out, alone=True)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise unread.unopened(encoded, dict.fromkeys(FORMATS.values())) from error
    except Image.DecompressionBombError as error:
        raise TooManyPixels(f"expected at most {settings.max_pixels} pixels (max_pixels): {error}") from error
    except MemoryError as error:
        raise OutOfMemory("there is not enough memory to decode the image, not even alone") from error
    except Exception as error:
        raise unread.unread(encoded, error) from error


def _decode_in_turn(
    encoded: bytes, settings: DecodeSettings, out: npt.NDArray[np.uint8], *, alone: bool = False
) -> DecodedPixels:
    with memory.Turn(memory.BUDGET) as turn:
        if alone:
            turn.wait(memory.BUDGET.total)
        try:
            return _decode(encoded, settings, out, turn)
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # they hold pixels, which must not outlive the turn
            raise


def _decode(encoded: bytes, settings: DecodeSettings, out: npt.NDArray[np.uint8], turn: memory.Turn) -> DecodedPixels:
    """Tries the three ways to decode an image, the fastest first.

    1. A JPEG whose header is plain, by simplejpeg.
    2. A JPEG in colour with any other header, which Pillow reads, by simplejpeg.
    3. All other images, and JPEGs that simplejpeg refuses, by Pillow.
    """
    header = jpeg_header.parse(encoded)
    if header is not None and math.prod(header.size) > MAX_PIXELS_DEFAULT:
        header = None  # for Pillow to warn of it or to refuse it
    if header is not None and _decode_fast(header, encoded, settings, out, turn):
        return DecodedPixels(out, FORMATS["JPEG"], header.size[1], header.size[0])
    # Another library in this process may have set it. Pillow would then fill missing pixels with grey.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    if (png_size := png_chunks.size(encoded)) is not None:
        _check_size(png_size, settings)
    with reader.opened(encoded) as picture:
        width, height = picture.size
        _check_size(picture.size, settings)
        is_decoded = False
        if header is None and picture.header is not None and picture.image.mode == "RGB":
            is_decoded = _decode_fast(picture.header, encoded, settings, out, turn)
        if not is_decoded:
            _decode_by_pillow(picture, settings, out, turn)
        return DecodedPixels(out, picture.format, height, width)


def _decode_fast(
    header: jpeg_header.Header, encoded: bytes, settings: DecodeSettings, out: npt.NDArray[np.uint8], turn: memory.Turn
) -> bool:
    """Decodes a JPEG by simplejpeg. Returns False if Pillow has to decode it or to report its error."""
    if settings.resizing.is_exact:
        return False
    _check_size(header.size, settings)
    target = orientation.as_stored(settings.size[::-1], header.orientation)
    reduced = settings.resizing.reduced(header.size, target)
    box, inner = settings.resizing.geometry(reduced, target)
    turn.wait(memory.jpeg_bytes(header, reduced, box, inner))
    has_profile = header.icc_profile is not None and colour.profile(header.icc_profile) is not None
    is_finished = header.orientation not in orientation.UPRIGHT and not has_profile
    place = out if is_finished and inner == target else None
    pixels = fast_jpeg.decode(encoded, header.size, reduced, box, inner, place)
    if pixels is None:
        return False
    if not is_finished:
        image = orientation.turned(Image.fromarray(pixels), header.orientation)
        pixels = np.asarray(colour.over_white(image, header.icc_profile))
    _place(pixels, out)
    return True


def _decode_by_pillow(
    picture: reader.Opened, settings: DecodeSettings, out: npt.NDArray[np.uint8], turn: memory.Turn
) -> None:
    image, resizing, upright = picture.image, settings.resizing, settings.size[::-1]
    # Only of a JPEG is the orientation known before its pixels.
    target = orientation.as_stored(upright, picture.header.orientation if picture.header else 1)
    if picture.header and not resizing.is_exact:
        image.draft("RGB", resizing.draft_size(image.size, target))
    geometry = resizing.geometry(image.size, target)
    if picture.header:
        turn.wait(memory.jpeg_bytes(picture.header, image.size, *geometry))
    else:
        turn.wait(memory.decoding_bytes(image, *geometry))
    pixels = picture.load()
    turn_by = picture.orientation()
    box, inner = resizing.geometry(pixels.size, orientation.as_stored(upright, turn_by))
    pixels = orientation.turned(_resized(pixels, box, inner, resizing.filter), turn_by)
    _place(np.asarray(colour.over_white(_cut(pixels, upright), picture.icc_profile())), out)


def _place(pixels: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8]) -> None:
    """Writes pixels into the centre of an array that is at least as large, with black around them."""
    if pixels is out:
        return
    height, width, _ = pixels.shape
    if pixels.shape != out.shape:
        out[...] = 0
    top, left = (out.shape[0] - height) // 2, (out.shape[1] - width) // 2
    out[top : top + height, left : left + width] = pixels


def _check_size(size: tuple[int, int], settings: DecodeSettings) -> None:
    width, height = size
    if width * height > settings.max_pixels:
        expected = f"expected at most {settings.max_pixels} pixels (max_pixels)"
        raise TooManyPixels(f"{expected}, the header says {width}x{height}")


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
