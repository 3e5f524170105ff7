"""pipeline.model_checks.sample_pixels: the sample images at a model's size."""

import dataclasses
from pathlib import Path

import numpy as np

from pipeline.flags import options
from pipeline.model_checks.sample_pixels import sample_pixels
from transforms.images import decoding
from transforms.models.preprocessing import Preprocessing


def test_the_samples_are_resized_as_the_model_asks(model):
    small = dataclasses.replace(model, image_size=(32, 40))
    cropped = dataclasses.replace(small, preprocessing=Preprocessing(resize_mode="crop", interpolation="bicubic"))
    pixels = sample_pixels(small)
    assert pixels.shape == (13, 32, 40, 3) and pixels.dtype == np.uint8
    assert (sample_pixels(cropped) != pixels).any(axis=(1, 2, 3)).all()


def test_the_samples_are_in_the_order_of_their_names(model):
    small = dataclasses.replace(model, image_size=(8, 8))
    files = sorted(Path(options.SAMPLES).parent.glob(Path(options.SAMPLES).name))
    for pixels, file in zip(sample_pixels(small), files, strict=True):
        resizing = small.preprocessing.resizing
        np.testing.assert_array_equal(pixels, decoding.decode(file.read_bytes(), (8, 8), resizing).pixels)
