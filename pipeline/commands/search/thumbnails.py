"""Small pictures of stored images."""

import dataclasses
import functools
import io

from PIL import Image

from transforms.elements.records import ImageRef
from transforms.images import decoding
from transforms.storage import read_image
from transforms.storage.context import DEFAULT_STORAGE, Storage

_SIDE = 256
_QUALITY = 82
# A server of the web that takes longer leaves its image without a picture.
_URL_SECONDS = 5.0


@functools.lru_cache(maxsize=256)
def jpeg(key: bytes, storage: Storage = DEFAULT_STORAGE) -> bytes | None:
    """Returns the picture of an image as a JPEG for a page; None as `picture`."""
    small = picture(key, _SIDE, storage)
    if small is None:
        return None
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=_QUALITY)
    return encoded.getvalue()


def picture(key: bytes, side: int, storage: Storage = DEFAULT_STORAGE) -> Image.Image | None:
    """Returns the middle of an image that was listed as a file, in side×side pixels; None if it cannot be decoded."""
    try:
        quickly = dataclasses.replace(storage, url_seconds=_URL_SECONDS)
        encoded = read_image.read(quickly, ImageRef(key)).encoded
        return Image.fromarray(decoding.decode(encoded, (side, side), "crop").pixels)
    except (OSError, ValueError, MemoryError):  # a page shows the name alone
        return None
