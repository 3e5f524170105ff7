"""transforms.images.colour: profiles are judged by what they do, and transparency is white."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.helpers import data_generation as data
from tests.helpers import hostile_images as hostile
from transforms.images import colour

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def described(profile: bytes, text: bytes) -> bytes:
    """Returns a profile of tests with another description of the same length."""
    assert len(text) <= len(b"made for tests")
    return profile.replace(b"made for tests", text.ljust(len(b"made for tests")))


def test_a_profile_of_srgb_is_left_out_whatever_its_description():
    assert colour.profile(SRGB) is None
    assert colour.profile(SRGB.replace("sRGB".encode("utf-16-be"), "AdbR".encode("utf-16-be"))) is None


@pytest.mark.parametrize("text", [b"sRGB", b"P3 with sRGB", b"IEC61966-2.1", b"anything"])
def test_another_profile_is_applied_whatever_its_description(text):
    mode, to_srgb = colour.profile(described(data.swapped_profile(), text))
    assert mode == "RGB"
    assert np.abs(np.subtract(to_srgb.apply(Image.new("RGB", (1, 1), "red")).getpixel((0, 0)), (0, 255, 0))).max() <= 2


def test_a_small_difference_is_one():
    # Gamma 2.2 is off by up to 8 of 255 from the curve of sRGB, and most in the dark.
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + bytes(2)
    primaries = data._RED, data._GREEN, data._BLUE
    assert colour.profile(data._rgb_profile(*primaries, curve)) is not None


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_profiles_with_and_without_alpha(mode):
    image = Image.new(mode, (2, 2), (55, 255)[: len(mode)] if mode == "LA" else 55)
    # IEC 61966-2-1: 1.055 (55 / 255) ** (1 / 2.4) - 0.055 is 128 of 255.
    assert abs(colour.over_white(image, data.linear_grey_profile()).getpixel((0, 0))[0] - 128) <= 1
    assert abs(colour.over_white(image, data.linear_rgb_profile()).getpixel((0, 0))[0] - 128) <= 1
    assert colour.over_white(image, data.black_ink_profile()).getpixel((0, 0)) == (55, 55, 55)


@pytest.mark.parametrize(("mode", "value"), [("LA", (0, 51)), ("RGBA", (0, 0, 0, 51))])
def test_transparency_is_white(mode, value):
    assert colour.over_white(Image.new(mode, (2, 2), value), None).getpixel((0, 0)) == (204, 204, 204)


def test_a_profile_for_other_colours_is_ignored():
    assert colour.over_white(Image.new("RGB", (2, 2), "red"), data.linear_grey_profile()).getpixel((0, 0)) == (
        255,
        0,
        0,
    )
    assert colour.over_white(Image.new("RGB", (2, 2), "red"), b"none").getpixel((0, 0)) == (255, 0, 0)


def test_what_is_no_profile_for_pictures_is_ignored():
    """Broken, for a space that no format has, without a way to colours, larger than allowed, or costly."""
    swapped = data.swapped_profile()
    for ignored in (
        b"none",
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
        swapped.replace(b"rTRC", b"xTRC"),
        hostile.profile_with((4 << 20) + 1),
        swapped.replace(b"acsp", b"none"),
        data.swapped_profile([(bytes((0x41, 0, 0, tag)), b"text") for tag in range(200)]),
    ):
        assert colour.profile(ignored) is None
    assert colour.profile(hostile.profile_with(4 << 20)) is not None  # as docs/formats.md promises


def test_a_profile_that_would_cost_too_much_is_not_read(monkeypatch):
    monkeypatch.setattr(colour.bounds, "bounded_profile", lambda icc_profile: None)
    assert colour._read_profile(data.swapped_profile()) is None


def test_transforms_in_memory_are_bounded():
    kinds = (colour._small_profile, colour._SMALL_PROFILE_BYTES), (colour._large_profile, colour._MAX_PROFILE_BYTES)
    assert sum(kept.cache_info().maxsize * size for kept, size in kinds) <= 18 << 20


def sampled_srgb(brightness: float) -> bytes:
    """Returns a profile of sRGB, with less light than that, whose curve is a table."""
    levels = np.linspace(0, 1, 1024)
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    curve = b"curv\0\0\0\0" + struct.pack(">I", 1024) + (brightness * linear * 65535).round().astype(">u2").tobytes()
    return data._rgb_profile(data._RED, data._GREEN, data._BLUE, curve)


def test_a_table_of_srgb_may_round_differently():
    assert colour.profile(sampled_srgb(1.0)) is None  # off by 1 of 255
    assert colour.profile(sampled_srgb(0.99)) is None  # by 1 or by -1
    assert colour.profile(sampled_srgb(0.97)) is not None  # by -3 to 1


def test_white_in_lab_is_white():
    lab = Image.new("LAB", (2, 2), (255, 128, 128))  # white
    assert min(colour.from_lab(lab).getpixel((0, 0))) >= 253
