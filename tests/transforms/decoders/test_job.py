"""transforms.decoders.job: jobs have a handy size, and travel by JSON and pickle."""

import dataclasses
import json

import pytest

from transforms.decoders.job import SLOTS, Settings
from transforms.images.resizing import Resizing
from transforms.storage.context import Storage

SETTINGS = Settings(2, (224, 224), Resizing(), 10**8, 4, Storage("payer"), timeout=60.0)


@pytest.mark.parametrize(("size", "images"), [((8, 8), 64), ((224, 224), 13), ((299, 299), 7), ((4000, 4000), 1)])
def test_a_job_has_two_mebibytes_of_pixels(size, images):
    settings = dataclasses.replace(SETTINGS, size=size)
    assert settings.job_images == images
    # The memory of a process for the jobs that wait in it, and their pixels.
    assert images == 1 or SLOTS * images * size[0] * size[1] * 3 <= 6 * 2**20


def test_settings_travel_as_json():
    fields = json.loads(json.dumps(dataclasses.asdict(SETTINGS)))
    fields |= {"size": tuple(fields["size"]), "resizing": Resizing(**fields["resizing"])}
    assert Settings(**fields | {"storage": Storage(**fields["storage"])}) == SETTINGS
