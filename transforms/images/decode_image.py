"""One `EncodedImage` → its facts, with its pixels in a place that the caller has for them, or its `Failure`."""

import hashlib

import numpy as np
import numpy.typing as npt

from transforms.elements.records import EncodedImage, Failure, ImageInfo
from transforms.images import decoding
from transforms.images.decode_settings import DecodeSettings

STAGE = "decode"


def decode_or_failure(image: EncodedImage, settings: DecodeSettings, out: npt.NDArray[np.uint8]) -> ImageInfo | Failure:
    """Decodes an image into `out`: see `decoding.decode_into`."""
    try:
        decoded = decoding.decode_into(image.encoded, settings, out)
    except decoding.ImageError as error:
        return Failure.of(image.ref.key, STAGE, error)
    sha256 = hashlib.sha256(image.encoded).hexdigest()
    return ImageInfo(image.ref, sha256=sha256, format=decoded.format, height=decoded.height, width=decoded.width)
