"""The EXIF orientation: how a picture as stored becomes upright."""

from PIL import ExifTags, Image

# EXIF 2.32, tag 0x0112 → how Pillow's ImageOps.exif_transpose turns the image upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Those under which width and height change places.
TURNED = (5, 6, 7, 8)


def read(image: Image.Image) -> int:
    """Returns the orientation of an opened image, 1 if it has none that can be read. Loads a PNG."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - the pixels are decoded without the EXIF block, and nothing else reads it
        return 1


def as_stored(upright: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Returns the (width, height) that turns into `upright` under an orientation."""
    return upright[::-1] if orientation in TURNED else upright


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Returns the upright image."""
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image
