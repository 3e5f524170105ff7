"""transforms.decoders.job: jobs have a handy size."""

import dataclasses
import math

import pytest

from transforms.decoders.job import SLOTS, Settings
from transforms.images.decode_settings import DecodeSettings

SETTINGS = Settings(2, DecodeSettings((224, 224)), 4, None, timeout=60.0)


@pytest.mark.parametrize(("size", "images"), [((8, 8), 64), ((224, 224), 13), ((299, 299), 7), ((4000, 4000), 1)])
def test_a_job_has_two_mebibytes_of_pixels(size, images):
    settings = dataclasses.replace(SETTINGS, images=DecodeSettings(size))
    assert settings.job_images == images
    # The memory of a process for the jobs that wait in it, and their pixels.
    assert images == 1 or SLOTS * images * math.prod(size) * 3 <= 6 * 2**20
