"""The end of decoding: colour profiles → sRGB, and transparency → white.

Whether a profile is sRGB is decided by what it does to colours. Phones write Display P3 into their pictures with a
profile whose description names sRGB.
"""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

from transforms.images import bounds

# The largest colour profile that is applied. The profiles of printing presses have up to 3 MB.
_MAX_PROFILE_BYTES = 4 << 20

_SRGB = ImageCms.createProfile("sRGB")
_LAB = ImageCms.createProfile("LAB")
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}

# A profile for RGB that changes no colour of a grid by more than this, of 255, is taken for sRGB itself. Tables and
# formulas of the same curve round differently.
_SAME = 1


def over_white(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """Returns L, LA, RGB, RGBA or CMYK as sRGB, composited over white if it has an alpha channel."""
    if image.mode not in ("LA", "RGBA"):
        return _as_srgb(image, icc_profile)
    colour = _as_srgb(image.convert(image.mode[:-1]), icc_profile)
    return Image.composite(colour, Image.new("RGB", image.size, "white"), image.getchannel("A"))


def from_lab(image: Image.Image) -> Image.Image:
    """Returns an image in mode LAB as sRGB."""
    converted = ImageCms.profileToProfile(image, _LAB, _SRGB, outputMode="RGB")
    assert converted is not None  # noqa: S101 - None is for in-place conversions
    return converted


def profile(icc_profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform] | None:
    """Returns the mode that a profile is for and its transform to sRGB, or None to ignore the profile.

    A profile is ignored if it is sRGB itself, is for a colour space that no format here has, is broken, or is larger
    than `_MAX_PROFILE_BYTES`. Viewers ignore broken profiles too.
    """
    if len(icc_profile) > _MAX_PROFILE_BYTES:
        return None
    return (_small_profile if len(icc_profile) <= _SMALL_PROFILE_BYTES else _large_profile)(icc_profile)


def _as_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    found = profile(icc_profile) if icc_profile else None
    if found is None:
        return image.convert("RGB")
    mode, to_srgb = found
    if image.mode == "L" and mode == "RGB":
        image = image.convert("RGB")
    return to_srgb.apply(image) if image.mode == mode else image.convert("RGB")


def _read_profile(icc_profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform] | None:
    bounded = bounds.bounded_profile(icc_profile)
    if bounded is None:
        return None
    try:
        read = ImageCms.ImageCmsProfile(io.BytesIO(bounded))
        mode = _PROFILE_MODES[read.profile.xcolor_space.strip()]
        to_srgb = ImageCms.buildTransform(read, _SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, KeyError, OSError, TypeError, ValueError):
        return None
    return None if mode == "RGB" and _is_srgb(to_srgb) else (mode, to_srgb)


def _is_srgb(transform: ImageCms.ImageCmsTransform) -> bool:
    grid = _grid()
    changed = np.asarray(transform.apply(grid), np.int16)
    return int(np.abs(changed - np.asarray(grid)).max()) <= _SAME


@functools.cache
def _grid() -> Image.Image:
    """Returns an image of 16×16×16 colours, with the darkest and the lightest."""
    levels = np.arange(16, dtype=np.uint8) * 17
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(16, 256, 3))


# A transform takes milliseconds to build, and cameras share profiles. The bytes of these add up to 18 MiB at most.
_SMALL_PROFILE_BYTES = 64 << 10
_small_profile = functools.lru_cache(maxsize=32)(_read_profile)
_large_profile = functools.lru_cache(maxsize=4)(_read_profile)
