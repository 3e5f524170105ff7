"""The sample that a page shows."""

import dataclasses

import numpy as np
import pytest

from pipeline.report.page.facts import MAX_SAMPLE, Sample, shown
from transforms.models.preprocessing import TF_HUB


@pytest.mark.parametrize(
    ("keys", "shape", "thumbnails"),
    [(2, (1, 4), 2), (1, (1, 4), 2), (1, (4,), 1), (MAX_SAMPLE + 1, (MAX_SAMPLE + 1, 4), MAX_SAMPLE + 1)],
)
def test_a_sample_of_unequal_lengths_is_refused(keys, shape, thumbnails):
    with pytest.raises(ValueError, match="expected as many of each, at most 500, and vectors of shape"):
        Sample((b"k",) * keys, np.zeros(shape, np.float32), (b"",) * thumbnails)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([224, 224], "224×224"),
        ([], "none"),
        ("", "none"),
        (False, "False"),
        (1280, "1280"),
        (dataclasses.asdict(TF_HUB), "pixels in 0..1, RGB, stretch, bilinear"),
        ({"mean": "of another version"}, "{'mean': 'of another version'}"),
    ],
    ids=str,
)
def test_values_for_people(value, text):
    assert shown(value) == text
