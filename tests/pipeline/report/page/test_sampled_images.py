"""The sample that a page shows."""

import numpy as np
import pytest

from pipeline.report.neighbours import cosines, nearest
from pipeline.report.page.sampled_images import MAX_SAMPLE, Sample
from tests.helpers import run_facts


@pytest.mark.parametrize(
    ("keys", "shape", "thumbnails"),
    [(2, (1, 4), 2), (1, (1, 4), 2), (1, (4,), 1), (MAX_SAMPLE + 1, (MAX_SAMPLE + 1, 4), MAX_SAMPLE + 1)],
)
def test_a_sample_of_unequal_lengths_is_refused(keys, shape, thumbnails):
    with pytest.raises(ValueError, match="expected as many of each, at most 500, and vectors of shape"):
        Sample((b"k",) * keys, np.zeros(shape, np.float32), (b"",) * thumbnails)


def test_what_is_near_is_computed_once():
    sample = run_facts.sample()
    np.testing.assert_array_equal(sample.cosines, cosines(sample.vectors))
    np.testing.assert_array_equal(sample.nearest, nearest(sample.cosines))
    assert sample.nearest is sample.nearest
