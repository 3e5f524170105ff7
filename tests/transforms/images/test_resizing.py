"""transforms.images.resizing: the pixels of torchvision's transforms on Pillow's images, and bounds for odd images.

torchvision resizes Pillow's images by `Image.resize`. What it adds is the geometry, which `torchvision_*` below repeat:
torchvision 0.20, transforms/functional.py, _compute_resized_output_size and center_crop.
"""

import io

import numpy as np
import pytest
from PIL import Image

from tests.helpers import data_generation as data
from transforms.images import decoding
from transforms.images.resizing import INTERPOLATIONS, Resizing, as_resizing

SIZES = [(96, 128), (128, 96), (61, 200), (333, 112), (64, 64), (40, 31), (57, 58)]


def torchvision_resize(image: Image.Image, size: int | tuple[int, int], by: Image.Resampling) -> Image.Image:
    """Resize(size): a number is the shorter side, else (height, width)."""
    if not isinstance(size, int):
        return image.resize(size[::-1], by)
    width, height = image.size
    short, long = sorted((width, height))
    new_short, new_long = size, int(size * long / short)
    return image.resize((new_short, new_long) if width <= height else (new_long, new_short), by)


def torchvision_center_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    top, left = round((image.height - height) / 2.0), round((image.width - width) / 2.0)
    return image.crop((left, top, left + width, top + height))


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("fraction", "shorter"), [(1.0, 56), (0.875, 64), (56 / 60, 60), (56 / 57, 57)])
def test_resize_of_the_shorter_side_then_center_crop(image_format, interpolation, fraction, shorter):
    if interpolation == "bilinear" and fraction == 1:
        pytest.skip("the fast path, which decodes JPEGs at a reduced size")
    for seed, stored in enumerate(SIZES):
        encoded = data.encoded(data.photograph(seed, *stored), image_format)
        with Image.open(io.BytesIO(encoded)) as image:
            resized = torchvision_resize(image.convert("RGB"), shorter, INTERPOLATIONS[interpolation])
            expected = np.asarray(torchvision_center_crop(resized, 56, 56))
        pixels = decoding.decode(encoded, (56, 56), Resizing("crop", interpolation, fraction)).pixels
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(("fraction", "resized"), [(1.0, (40, 56)), (0.8, (50, 70))])
def test_a_stretched_image_and_its_centre(fraction, resized):
    """As timm's crop mode `squash`, and CLIP's processors with a height and a width."""
    for seed, stored in enumerate(SIZES):
        image = data.photograph(seed, *stored)
        whole = torchvision_resize(image, resized, Image.Resampling.BICUBIC)
        expected = np.asarray(torchvision_center_crop(whole, 40, 56))
        resizing = Resizing("stretch", "bicubic", fraction)
        pixels = decoding.decode(data.encoded(image, "PNG"), (40, 56), resizing).pixels
        np.testing.assert_array_equal(pixels, expected)


def test_black_around_a_bicubic_image():
    image = data.photograph(0, 60, 120)
    pixels = decoding.decode(data.encoded(image, "PNG"), (50, 50), Resizing("pad", "bicubic")).pixels
    np.testing.assert_array_equal(pixels[12:37], np.asarray(image.resize((50, 25), Image.Resampling.BICUBIC)))
    assert not pixels[:12].any() and not pixels[37:].any()


def test_no_rectangle_is_smaller_than_the_target():
    for fraction in (1.0, 0.9, 0.875, 0.3):
        for target in ((224, 224), (224, 160), (7, 300), (1, 1)):
            for source in ((640, 480), (480, 640), (1, 1), (3000, 7), (223, 225)):
                resizing = Resizing("crop", "bicubic", fraction)
                box, inner = resizing.geometry(source, target)
                assert inner[0] >= target[0] and inner[1] >= target[1]
                assert 0 <= box[0] < box[2] <= source[0] and 0 <= box[1] < box[3] <= source[1]
                assert inner[0] * inner[1] <= 16 * target[0] * target[1]


@pytest.mark.parametrize("stored", [(1, 5000), (5000, 1)])
def test_a_line_is_cut_before_it_is_resized(stored):
    """Resized as a whole, it would have 50×250,000 pixels."""
    encoded = data.encoded(Image.new("RGB", stored, (10, 20, 30)), "PNG")
    pixels = decoding.decode(encoded, (50, 50), Resizing("crop", "bicubic", 0.9)).pixels
    assert pixels.shape == (50, 50, 3) and (pixels == (10, 20, 30)).all()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_image_is_turned(orientation):
    upright = data.photograph(3, 90, 160)
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = data.encoded(upright.transpose(stored), "PNG", exif=exif)
    resizing = Resizing("crop", "bicubic", 0.875)
    expected = decoding.decode(data.encoded(upright, "PNG"), (56, 48), resizing).pixels
    difference = np.abs(np.subtract(decoding.decode(turned, (56, 48), resizing).pixels, expected, dtype=np.int16))
    if orientation < 5:
        assert not difference.any()
    else:  # Pillow rounds and clips between the two axes, and takes them in the other order
        assert difference.mean() < 0.3 and np.quantile(difference, 0.99) <= 1


def test_the_default_is_the_one_of_earlier_versions():
    assert Resizing() == as_resizing("stretch") and not Resizing().is_exact and not Resizing("crop").is_exact
    assert Resizing("crop").geometry((640, 480), (224, 224)) == ((80.0, 0.0, 560.0, 480.0), (224, 224))
    assert as_resizing(Resizing("pad", "box")) == Resizing("pad", "box")
