"""Decoding against libvips, which shares no code with Pillow: 2,000 generated images, within 3 of 255.

Where libvips refuses an image, or is known to disagree, the colours are those that the format defines for its samples.
"""

import re
from collections import Counter

import numpy as np
import pytest

from tests.helpers import generated_images
from transforms.images import decoding

pyvips = pytest.importorskip("pyvips", reason="libvips comes with the extra for tests")

COUNT = 2_000
TOLERANCE = 3

# What libvips does otherwise → why. Of these images the colours are known, or another test has them.
DISAGREEMENTS = {
    "CMYK.*no profile": "libvips brings a profile of a press. Pillow mixes the inks by a formula.",
    "unspecified extra": "libvips takes any extra sample for alpha. TIFF 6.0 has another number for alpha.",
    "black is zero, 32 bits": "libvips cuts at 255. TIFF 6.0 says that white is the largest number.",
    "gif.*part of the canvas": "libvips fills the rest of a canvas with black. Browsers leave it transparent.",
}
# Of 255. Pillow keeps 8 bits of a sample before a profile is applied: it spreads the dark colours of a linear one.
SPREAD = {"16 bits.*linear": 16}

# What is refused here → the error's message.
REFUSED = {"black is zero.*(alpha|extra).*planes": "of a kind that is not read"}


def by_libvips(encoded: bytes) -> np.ndarray | None:
    """Returns RGB over white, None if libvips does not read the image."""
    try:
        header = pyvips.Image.new_from_buffer(encoded, "")
        size = header.width, header.height
        if header.get_typeof("orientation") and header.get("orientation") >= 5:
            size = size[::-1]
        image = pyvips.Image.thumbnail_buffer(encoded, size[0], height=size[1], size="force", export_profile="srgb")
        image = image.flatten(background=255) if image.hasalpha() else image
        return image.colourspace("srgb").cast("uchar").numpy()[..., :3]
    except pyvips.Error:
        return None


def found(table: dict[str, object], what: str) -> object:
    return next((value for pattern, value in table.items() if re.search(pattern, what)), None)


@pytest.mark.slow
def test_the_pixels_are_those_of_libvips():
    wrong, seen = [], Counter()
    for seed in range(COUNT):
        what, encoded, right = generated_images.generate(seed)
        if (message := found(REFUSED, what)) is not None:
            with pytest.raises(decoding.UnsupportedImage, match=str(message)):
                decoding.decode(encoded, (8, 8))
            seen["refused"] += 1
            continue
        other = by_libvips(encoded)
        by = "libvips"
        if other is None or found(DISAGREEMENTS, what) is not None:
            other, by = right, "the format"
        if other is None:
            seen["unknown"] += 1
            decoding.decode(encoded, (8, 8))
            continue
        seen[by] += 1
        pixels = decoding.decode(encoded, other.shape[:2]).pixels
        difference = float(np.abs(pixels - np.asarray(other, float)).max())
        if difference > (found(SPREAD, what) or TOLERANCE):
            wrong.append((seed, what, difference, by))
    assert wrong == []
    assert seen["libvips"] > 0.75 * COUNT and seen["the format"] > 0.05 * COUNT and seen["unknown"] < 0.1 * COUNT, seen


@pytest.mark.parametrize("pattern", [*DISAGREEMENTS, *SPREAD, *REFUSED])
def test_a_known_disagreement_is_among_the_images(pattern):
    assert any(re.search(pattern, generated_images.generate(seed).what) for seed in range(200))
