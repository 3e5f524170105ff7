"""The pixels that Pillow has loaded → 8 bits a sample, with an alpha channel if some are transparent."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from transforms.images import colour, png_chunks
from transforms.images.image_errors import CorruptImage, UnsupportedColour


def plain(image: Image.Image) -> Image.Image:
    """Returns an image as L, LA, RGB, RGBA or CMYK, which resizing and colour management support."""
    if image.mode.startswith("I"):
        # 16 bits a sample. Pillow holds some of these images in mode I, whose 32 bits are clipped to 16.
        return Image.fromarray(sixteen_to_eight(np.asarray(image)))
    if image.mode == "F":
        raise UnsupportedColour("expected 8 or 16 bits a sample, not floating point: its range is not defined")
    if image.mode == "P" and image.palette is None:
        raise CorruptImage("the pixels are indices into a palette, and there is none")
    if image.mode in ("LA", "RGBA"):
        return image
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "LAB":
        return colour.from_lab(image)
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")


def plain_png(image: Image.Image, picture: png_chunks.Picture) -> Image.Image:
    """Returns a loaded PNG as `plain` does. A transparent colour is compared with the samples as they are stored."""
    if picture.is_grey() and image.mode == "RGBA":  # grey of 16 bits with alpha
        return Image.merge("LA", (image.getchannel("R"), image.getchannel("A")))
    if picture.transparent is None:
        return plain(image)
    image.info.pop("transparency", None)  # Pillow compares it with 8 bits
    most = (1 << picture.depth) - 1
    transparent = [value & most for value in picture.transparent]
    if picture.colour_type == 2:
        clear = _clear_colour(image, picture, transparent)
    else:
        scale = 1 if picture.depth == 16 else 255 // most
        clear = np.asarray(image if image.mode.startswith("I") else plain(image)) == transparent[0] * scale
    opaque = plain(image)
    opaque.putalpha(Image.fromarray(np.where(clear, np.uint8(0), np.uint8(255))))
    return opaque


def on_canvas(image: Image.Image, extents: tuple[int, int, int, int]) -> Image.Image:
    """Returns a loaded GIF as `plain` does. The canvas around its first frame is transparent."""
    pixels = plain(image)
    if extents == (0, 0, *image.size):
        return pixels
    pixels = pixels.convert("RGBA")
    canvas = Image.new("RGBA", image.size)
    canvas.paste(pixels.crop(extents), extents[:2])
    return canvas


def is_last_row_blank(image: Image.Image) -> bool:
    """Returns whether the last row may never have been written."""
    return image.crop((0, image.height - 1, image.width, image.height)).getbbox() is None


def ends_in_grey(image: Image.Image, reduction: int) -> bool:
    """Returns whether the last block of a JPEG is mid-grey, as if there were no data for it.

    Args:
      image: the JPEG, which may be decoded at a fraction of its size.
      reduction: how many times smaller it is.
    """
    width = max(1, 8 // max(1, reduction))
    end = image.crop((image.width - width, image.height - 1, image.width, image.height))
    return all(band.getextrema() == (128, 128) for band in end.split())


def _clear_colour(image: Image.Image, picture: png_chunks.Picture, transparent: list[int]) -> npt.NDArray[np.bool_]:
    if picture.depth == 8:
        return _equals(image, transparent)
    clear = _equals(image, [value >> 8 for value in transparent])
    if clear.any():
        # Pillow keeps one of the two bytes of a sample: the other is read in the other order.
        with Image.open(io.BytesIO(picture.plain), formats=("PNG",)) as again:
            again.tile = [again.tile[0]._replace(args="RGB;16L")]
            again.load()
            clear &= _equals(again, [value & 255 for value in transparent])
    return clear


def _equals(image: Image.Image, colour_: list[int]) -> npt.NDArray[np.bool_]:
    equal = np.asarray(image.getchannel(0)) == colour_[0]
    for band, value in enumerate(colour_[1:], 1):
        equal &= np.asarray(image.getchannel(band)) == value
    return equal


def sixteen_to_eight(samples: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Returns samples of 16 bits, which may be in an array of wider ones, in 8."""
    wide = np.clip(samples, 0, 65535).astype(np.uint32)
    wide += 128
    wide //= 257
    return wide.astype(np.uint8)
