"""The settings of decoding, which travel together from the flags to the function that decodes."""

import dataclasses

from PIL import Image

from transforms.images.resizing import Resizing

# Pillow itself refuses to open larger images, in any format.
MAX_PIXELS_LIMIT = 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else 178_956_970
MAX_PIXELS_DEFAULT = MAX_PIXELS_LIMIT // 2


@dataclasses.dataclass(frozen=True)
class DecodeSettings:
    """What images are decoded to, and which are refused.

    Attributes:
      size: (height, width) of the result, in pixels.
      resizing: how an image is brought to that size.
      max_pixels: the most pixels that the header may announce; checked before any pixel is decoded.

    Raises:
      ValueError: if an attribute is invalid.
    """

    size: tuple[int, int]
    resizing: Resizing = dataclasses.field(default_factory=Resizing)
    max_pixels: int = MAX_PIXELS_DEFAULT

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size={self.size!r}: expected (height, width) in pixels, such as (224, 224)")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels={self.max_pixels!r}: expected a number from 1")
