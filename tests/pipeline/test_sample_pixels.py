"""pipeline.sample_pixels: the sample images at a model's size."""

import dataclasses

import numpy as np

from pipeline.sample_pixels import sample_pixels
from transforms.models.preprocessing import Preprocessing


def test_the_samples_are_resized_as_the_model_asks(model):
    small = dataclasses.replace(model, image_size=(32, 40))
    cropped = dataclasses.replace(small, preprocessing=Preprocessing(resize_mode="crop", interpolation="bicubic"))
    pixels = sample_pixels(small)
    assert pixels.shape == (13, 32, 40, 3) and pixels.dtype == np.uint8
    assert (sample_pixels(cropped) != pixels).any(axis=(1, 2, 3)).all()
