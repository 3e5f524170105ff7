"""transforms.models.preprocessing: one value from several sources, and the values that it makes of pixels."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from transforms.models import keras_file
from transforms.models.preprocessing import NO_CHOICES, RANGES, TF_HUB, Choices, Preprocessing, of_range

PIXELS = np.arange(256, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)


def values(preprocessing, pixels):
    pixels = pixels[..., ::-1] if preprocessing.channels == "bgr" else pixels
    return pixels * np.array(preprocessing.scale) + np.array(preprocessing.offset)


@pytest.mark.parametrize(("name", "black", "white"), [("0..1", 0, 1), ("0..255", 0, 255), ("-1..1", -1, 1)])
def test_ranges(name, black, white):
    preprocessing = of_range(name).preprocessing()
    assert preprocessing.pixel_range == name
    assert preprocessing.offset == (black,) * 3
    np.testing.assert_allclose(values(preprocessing, PIXELS)[[0, -1], 0, 0, 0], [black, white], rtol=1e-15)
    assert preprocessing.text() == f"pixels in {name}, RGB, stretch, bilinear"


@pytest.mark.parametrize("mode", keras_file.MODES)
def test_the_modes_of_keras_applications(mode):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
    expected = keras.applications.imagenet_utils.preprocess_input(pixels.astype(np.float32), mode=mode)
    # Keras computes in float32, whose last bit is 1.5e-5 of values up to 152.
    np.testing.assert_allclose(values(keras_file.MODES[mode].preprocessing(), pixels), expected, atol=2e-5)


def test_the_first_source_that_says_something_decides():
    flags = Choices(image_size=(9, 8), channels="bgr")
    file = Choices(image_size=(7, 7), crop_fraction=0.5, resize_mode="crop").over(of_range("-1..1"))
    chosen = flags.over(file).over(of_range("0..255"))
    assert chosen.image_size == (9, 8)
    assert chosen.preprocessing() == Preprocessing(*RANGES["-1..1"], "bgr", "crop", crop_fraction=0.5)
    assert NO_CHOICES.preprocessing() == TF_HUB and TF_HUB.changes() == {}


def test_it_travels_by_json():
    preprocessing = Preprocessing((0.1, 0.2, 0.3), (1 / 3, 0.5, 0.7), "bgr", "crop", "lanczos", 0.875)
    assert Preprocessing.from_facts(json.loads(json.dumps(dataclasses.asdict(preprocessing)))) == preprocessing
    assert preprocessing.text() == (
        "pixels / 255, less the mean 0.1, 0.2, 0.3, over 0.333333, 0.5, 0.7, BGR, crop, lanczos, the centre 0.875 of "
        "each side"
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mean": (0.0, 0.0)}, r"mean=\(0\.0, 0\.0\): expected three finite numbers"),
        ({"mean": (0.0, 0.0, float("nan"))}, "expected three finite numbers"),
        ({"std": (1.0, 0.0, 1.0)}, r"std=\(1\.0, 0\.0, 1\.0\): expected three numbers above 0"),
        ({"channels": "rgba"}, "channels='rgba': expected one of rgb, bgr"),
        ({"interpolation": "cubic"}, "interpolation='cubic': expected one of bilinear, pillow_bilinear, bicubic"),
        ({"crop_fraction": 0.0}, r"crop_fraction=0\.0: expected a number above 0, at most 1"),
        ({"crop_fraction": 0.5, "resize_mode": "pad"}, "expected 1 with resize_mode='pad', which cuts nothing"),
        ({"resize_mode": "fill"}, "resize_mode='fill': expected one of stretch, crop, pad"),
    ],
    ids=str,
)
def test_wrong_values_are_refused_at_construction(wrong, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**wrong)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_what_decides_on_the_values_of_pixels(channels):
    preprocessing = Preprocessing((0.1, 0.2, 0.3), (0.5, 0.25, 1.0), channels)
    assert preprocessing.values() == (preprocessing.scale, preprocessing.offset, channels)
