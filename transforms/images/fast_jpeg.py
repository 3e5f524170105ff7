"""Decodes JPEGs by simplejpeg (libjpeg-turbo) and resizes them with SIMD, about twice as fast as Pillow.

Both packages are required on all platforms that they have wheels for. Pillow decodes the other images, and all images
on other platforms.
"""

import functools

import numpy as np
import numpy.typing as npt

try:
    import cykooz_resizer
    import simplejpeg
except ImportError:
    simplejpeg = None

from transforms.images import jpeg_scans

# Pillow's mode → simplejpeg's names of the colours in the file, and of those to decode to.
_COLOURS = {"RGB": (("YCbCr",), "RGB"), "L": (("Gray",), "GRAY"), "CMYK": (("CMYK", "YCCK"), "CMYK")}


def decode(
    encoded: bytes,
    stored: tuple[int, int],
    reduced: tuple[int, int],
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    out: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8] | None:
    """Decodes a JPEG and resizes it, antialiased bilinear. Orientation and colour profile are not applied.

    Args:
      encoded: the bytes of a file.
      stored: the (width, height) in its header according to the caller's parser, in pixels.
      reduced: the (width, height) to decode it at: all of that, or a half, a quarter or an eighth of it, rounded up.
      box: (left, top, right, bottom) of the part to use, in pixels of the reduced image.
      size: (width, height) of the result, in pixels.
      out: a C-contiguous array of the result's shape to write it into, whose content is undefined after None.

    Returns:
      RGB, uint8 (height, width, 3), in `out` if there is one. None if Pillow has to decode the image or report its
      error: the file is broken, its colours are not YCbCr, or a package is missing.
    """
    is_whole = box == (0, 0, *reduced)
    buffer = out if is_whole and size == reduced else None
    pixels = unresized(encoded, stored, reduced, buffer=buffer)
    if pixels is None:
        return None
    if not is_whole or size != reduced:
        pixels = resized(pixels, None if is_whole else box, size)
    if out is None or buffer is not None:
        return pixels
    out[...] = pixels
    return out


def unresized(
    encoded: bytes,
    stored: tuple[int, int],
    reduced: tuple[int, int],
    mode: str = "RGB",
    buffer: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8] | None:
    """Decodes a JPEG to the same pixels as Pillow, and refuses what Pillow accepts with missing pixels.

    Args:
      encoded, stored, reduced: as for `decode`.
      mode: RGB for a JPEG in YCbCr, L for a grey one, CMYK for one in CMYK or YCCK, whose inks are as stored.
      buffer: a C-contiguous array of the result's shape to write it into.

    Returns:
      uint8 (height, width, channels). None as for `decode`.
    """
    if simplejpeg is None:
        return None
    stored_colours, colours = _COLOURS[mode]
    try:
        height, width, found, _ = simplejpeg.decode_jpeg_header(encoded)
        # The limit on pixels was checked against the size from another parser, so this parser must agree with it.
        if (width, height) != stored or found not in stored_colours:
            return None
        reduction = round(width / reduced[0])
        # strict: without it, the missing pixels of a truncated file are grey.
        pixels = simplejpeg.decode_jpeg(
            encoded, colours, False, False, reduced[1], reduced[0], reduction, buffer=buffer, strict=True
        )
    except (ValueError, KeyError):  # KeyError: it has no name for 4:4:1
        return None
    return pixels if pixels.shape[1::-1] == reduced and jpeg_scans.are_complete(encoded) else None


def resized(
    pixels: npt.NDArray[np.uint8], box: tuple[float, float, float, float] | None, size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Resizes the part of an image in the box, or all of it."""
    height, width, _ = pixels.shape
    source = cykooz_resizer.ImageData(width, height, cykooz_resizer.PixelType.U8x3, pixels.tobytes())
    target = cykooz_resizer.ImageData(*size, cykooz_resizer.PixelType.U8x3)
    options = _bilinear()
    if box is not None:
        left, top, right, bottom = box
        options = options.copy()
        options.crop_box = cykooz_resizer.CropBox(left, top, right - left, bottom - top)
    cykooz_resizer.Resizer().resize(source, target, options)
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(size[1], size[0], 3)


@functools.cache
def _bilinear() -> "cykooz_resizer.ResizeOptions":
    algorithm = cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.bilinear)
    return cykooz_resizer.ResizeOptions(algorithm, use_alpha=False)
