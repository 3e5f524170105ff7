"""Small pictures of images, as JPEGs that a page may show."""

import functools
import io

from PIL import Image

from transforms import keys
from transforms.images import decoding
from transforms.records import ImageRef
from transforms.storage import read_image

SIDE = 256
_QUALITY = 82


def of_encoded(encoded: bytes) -> bytes:
    """Returns a JPEG of SIDE×SIDE pixels, the middle of the image.

    Raises:
      ValueError: if the image cannot be decoded.
    """
    pixels = decoding.decode(encoded, (SIDE, SIDE), "crop").pixels
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG", quality=_QUALITY)
    return jpeg.getvalue()


@functools.lru_cache(maxsize=256)
def of_key(key: bytes, billing_project: str | None = None) -> bytes | None:
    """Returns the thumbnail of a stored image, None if it cannot be read or decoded, as an image in a shard."""
    try:
        return of_encoded(read_image.read(ImageRef(key), billing_project).encoded)
    except Exception:  # noqa: BLE001 - each storage client has its own errors; a page shows its name alone
        return None


def name(key: bytes) -> str:
    """Returns the last part of a key, for people."""
    return keys.text(key).rstrip("/").rpartition("/")[2]
