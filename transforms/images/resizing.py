"""The geometry of resizing: which part of an image becomes which pixels. No Beam, no NumPy.

By default, `bilinear`, a JPEG may be decoded at a reduced size and resized with SIMD, and its exact centre is cut out.
Any other interpolation, and a crop fraction below 1, are computed as torchvision computes them on Pillow's images:
Resize of the shorter side, then CenterCrop.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

from PIL import Image

RESIZE_MODES = ("stretch", "crop", "pad")
INTERPOLATIONS: Mapping[str, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "pillow_bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "hamming": Image.Resampling.HAMMING,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}

# An image is resized as a whole before its centre is cut out, unless that takes this many times the pixels of the
# result: a line of 1×10,000,000 pixels would become 224×2,240,000,000.
_MAX_PIXELS_OVER_RESULT = 16

# How many source pixels a draft keeps for each pixel of the result, along each axis. 1 is the fastest and aliases. 2
# leaves the last halving to the antialiased resize, as Pillow's own `thumbnail` does. On 16 photographs, the cosine
# between vectors of efficientnet_lite0 from a draft and from a full decode is at least 0.9954 with 1, 0.9992 with 2.
_DRAFT_GAP = 2.0

Box = tuple[float, float, float, float]


class Geometry(NamedTuple):
    """A step of resizing.

    Attributes:
      box: (left, top, right, bottom) of the part of the source to resize, in its pixels.
      inner: (width, height) to resize it to. Where that is larger than the target, the centre is cut out of it.
    """

    box: Box
    inner: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Resizing:
    """How images are brought to the size of a network.

    Attributes:
      mode: `stretch` to the size (TF-Hub's convention), `crop` the centre in the size's proportions, or `pad` with
        black around it, as tf.image.resize_with_pad does.
      interpolation: a name of INTERPOLATIONS. All but `nearest` are antialiased. `bilinear` is the fast one, and
        `pillow_bilinear` Pillow's own.
      crop_fraction: the part of each side that the network gets, in (0, 1]. Images are resized to the size over this
        fraction, and the centre is cut out.

    Raises:
      ValueError: if an attribute is invalid.
    """

    mode: str = "stretch"
    interpolation: str = "bilinear"
    crop_fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in RESIZE_MODES:
            raise ValueError(f"resize_mode={self.mode!r}: expected one of {', '.join(RESIZE_MODES)}")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation={self.interpolation!r}: expected one of {', '.join(INTERPOLATIONS)}")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction={self.crop_fraction!r}: expected a number above 0, at most 1")
        if self.mode == "pad" and self.crop_fraction != 1:
            raise ValueError(
                f"crop_fraction={self.crop_fraction!r}: expected 1 with resize_mode='pad', which cuts nothing"
            )

    @property
    def is_exact(self) -> bool:
        """Whether the pixels are Pillow's, from the image in full size."""
        return self.interpolation != "bilinear" or self.crop_fraction != 1

    @property
    def filter(self) -> Image.Resampling:
        """Pillow's filter."""
        return INTERPOLATIONS[self.interpolation]

    def geometry(self, source: tuple[int, int], target: tuple[int, int]) -> Geometry:
        """Returns how an image of (width, height) becomes one of the target's (width, height), in pixels."""
        (width, height), (target_width, target_height) = source, target
        whole: Box = (0.0, 0.0, width, height)
        if self.mode == "pad":
            scale = min(target_width / width, target_height / height)
            return Geometry(whole, (max(1, round(width * scale)), max(1, round(height * scale))))
        if self.is_exact:
            inner = self._resized(source, target)
            if inner[0] * inner[1] <= _MAX_PIXELS_OVER_RESULT * target_width * target_height:
                return Geometry(whole, inner)
            across, down = width / inner[0], height / inner[1]
            first, upper = centre(inner, target)
            last, lower = first + target_width, upper + target_height
            box = (first * across, upper * down, min(last * across, width), min(lower * down, height))
            return Geometry(box, target)
        if self.mode == "stretch":
            return Geometry(whole, target)
        scale = min(width / target_width, height / target_height)
        left = (width - target_width * scale) / 2
        top = (height - target_height * scale) / 2
        return Geometry((left, top, width - left, height - top), target)

    def draft_size(self, stored: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
        """Returns the least (width, height) at which a JPEG of the stored size may be decoded, as Pillow's draft asks.

        It is at least `_DRAFT_GAP` times the size that the resize needs.
        """
        (left, top, right, bottom), inner = self.geometry(stored, target)
        scale = _DRAFT_GAP * max(inner[0] / (right - left), inner[1] / (bottom - top))
        return max(1, math.ceil(stored[0] * scale)), max(1, math.ceil(stored[1] * scale))

    def reduced(self, stored: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
        """Returns the (width, height) that Pillow's draft makes of a JPEG with this `draft_size`."""
        least = self.draft_size(stored, target)
        scale = min(stored[0] // least[0], stored[1] // least[1])
        reduction = next((reduction for reduction in (8, 4, 2) if scale >= reduction), 1)
        return -(-stored[0] // reduction), -(-stored[1] // reduction)

    def _resized(self, source: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
        """Returns the (width, height) of a whole image before its centre is cut out."""
        width, height = source
        least = (self._enlarged(target[0]), self._enlarged(target[1]))
        if self.mode == "stretch":
            return least
        # The longer side is rounded down: torchvision/transforms/functional.py, _compute_resized_output_size.
        if least[0] * height >= least[1] * width:
            return least[0], least[0] * height // width
        return least[1] * width // height, least[1]

    def _enlarged(self, size: int) -> int:
        # timm rounds down too. The rounding error of the division, as in 224 / (224 / 232), is made up for first.
        return math.floor(size / self.crop_fraction + 1e-6)


def as_resizing(resizing: Resizing | str) -> Resizing:
    """Returns a resizing as it is, and for a name of RESIZE_MODES the default of that mode."""
    return Resizing(resizing) if isinstance(resizing, str) else resizing


def centre(inner: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """Returns the (left, top) of the centre of a size in a larger one, as torchvision's CenterCrop rounds them."""
    return round((inner[0] - target[0]) / 2), round((inner[1] - target[1]) / 2)
