"""Small JPEGs of images, for people. No Beam, no TensorFlow."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from transforms.images import fast_jpeg, unread

SIDE = 96
_QUALITY = 75
_MAX_PIXELS = 50_000_000


def of_pixels(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Returns a JPEG of at most SIDE pixels on the longer side.

    Args:
      pixels: RGB, uint8 (height, width, 3).
    """
    return encoded(reduced(pixels))


def reduced(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns a copy of pixels, uint8 (height, width, 3), with at most SIDE pixels on the longer side."""
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    if scale >= 1:
        return pixels.copy()
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if fast_jpeg.simplejpeg is not None:
        return fast_jpeg.resized(np.ascontiguousarray(pixels), None, size)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def encoded(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Returns the JPEG of pixels, uint8 (height, width, 3)."""
    if fast_jpeg.simplejpeg is not None:
        content: bytes = fast_jpeg.simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=_QUALITY)
        return content
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def brightness(pixels: npt.NDArray[np.uint8]) -> float:
    """Returns the mean of the pixels of an image, uint8 (height, width, 3), from 0 to 255: of one pixel in 16."""
    return float(pixels[::4, ::4].mean())


def of_broken(encoded: bytes) -> bytes:
    """Returns a thumbnail of as much of a truncated or broken JPEG as can be decoded; b"" if nothing can.

    Missing pixels are grey. Broken images of other formats have no thumbnail.
    """
    if fast_jpeg.simplejpeg is None or unread.refused(encoded) is not None:
        return b""
    try:
        height, width, *_ = fast_jpeg.simplejpeg.decode_jpeg_header(encoded)
        if height * width > _MAX_PIXELS:
            return b""
        # It decodes at the smallest of 1/8 … 1/1 of the size that has these many pixels.
        return of_pixels(fast_jpeg.simplejpeg.decode_jpeg(encoded, "RGB", True, True, SIDE, SIDE, 8, strict=False))
    except Exception:  # noqa: BLE001 - a broken file may raise anything, and a page shows its name alone
        return b""
