"""The sample of a run for its page."""

import random

import apache_beam as beam
import numpy as np
import pytest

from pipeline.report import sampling
from pipeline.report.page.facts import FailedImage
from pipeline.report.page.sampled_images import MAX_SAMPLE
from tests.helpers import data_generation as data
from tests.helpers.collecting import collect
from transforms.elements.keys import hashed
from transforms.elements.records import DecodedBlock, Embedding, Failure, ImageInfo, ImageRef
from transforms.images import thumbnail

DIMENSION = 4


def _info(number):
    return ImageInfo(ImageRef(b"/%d.jpg" % number), "", "jpeg", 20, 20)


def _embedding(number):
    return Embedding(_info(number), np.full(DIMENSION, number, np.float32))


def _block(numbers):
    pixels = np.stack([np.asarray(data.photograph(number % 7, 20, 20)) for number in numbers])
    return DecodedBlock(tuple(map(_info, numbers)), pixels)


def _smallest(numbers):
    return set(sorted((_info(number).ref.key for number in numbers), key=hashed)[:MAX_SAMPLE])


@pytest.mark.slow
def test_the_sample_is_that_of_the_smallest_hashes():
    embedded, reused = range(900), range(900, 1000)

    def build(root):
        failed = [Failure(b"/broken%d" % number, "decode", "CorruptImage", "m", False) for number in range(3)]
        collected = root | sampling.CollectSample(
            [
                root | "Embedded" >> beam.Create(map(_embedding, embedded)),
                root | "Reused" >> beam.Create(map(_embedding, reused)),
            ],
            root | "Blocks" >> beam.Create([_block(range(start, start + 100)) for start in range(0, 900, 100)]),
            root | "Failures" >> beam.Create(failed),
        )
        return {"collected": collected}

    collections, _ = collect(build)
    collected = dict(collections["collected"])
    sample = sampling.sample(collected, DIMENSION)
    assert set(sample.keys) == _smallest([*embedded, *reused]) and len(sample) == MAX_SAMPLE
    for key, vector, picture in zip(sample.keys, sample.vectors, sample.thumbnails, strict=True):
        number = int(key[1:-4])
        assert vector.tolist() == [number] * DIMENSION and bool(picture) == (number < 900)
    assert 60 < sample.brightness < 200
    assert {failed.key for failed in sampling.failures(collected)} == {b"/broken0", b"/broken1", b"/broken2"}


def test_without_elements_there_is_an_empty_sample():
    sample = sampling.sample({}, DIMENSION)
    assert sample.vectors.shape == (0, DIMENSION) and sample.brightness is None and sampling.failures({}) == []


def test_few_hashes_above_the_smallest_pass():
    hashes = [hashed(b"%d" % number) for number in range(20_000)]
    smallest = sampling.Smallest(100)
    taken = [hashed for hashed in hashes if smallest.takes(hashed)]
    assert set(sorted(hashes)[:100]) <= set(taken)
    assert len(taken) < 1000  # 100 * (1 + ln 200) = 630 on average
    assert all(smallest.takes(hashed) for hashed in sorted(hashes)[:100])  # as a bundle that is tried again
    assert {hashed for hashed in hashes if smallest.has(hashed)} == set(sorted(hashes)[:100])


@pytest.mark.slow
def test_a_bundle_encodes_the_pictures_that_are_in_the_sample_at_its_end(monkeypatch):
    encoded = []
    monkeypatch.setattr(thumbnail, "encoded", lambda pixels: encoded.append(pixels) or b"jpeg")
    numbers = range(5000)
    pictures = sampling._Pictures()
    pictures.setup()
    for _ in range(2):  # a bundle that is tried again gives the same
        pictures.start_bundle()
        for start in range(0, len(numbers), 100):
            assert list(pictures.process(_block(numbers[start : start + 100]))) == []
            assert len(pictures._elements) <= MAX_SAMPLE + sampling._SPARE
        outputs = [each.value for each in pictures.finish_bundle()]
        assert {element[1] for _, element in outputs} == _smallest(numbers)
    assert len(encoded) == 2 * MAX_SAMPLE


def test_threads_may_share_the_smallest():
    hashes = [hashed(b"%d" % number) for number in range(1000)]
    orders = [random.Random(seed).sample(hashes, 1000) for seed in range(3)]
    for order in orders:
        smallest = sampling.Smallest(10)
        assert set(sorted(hashes)[:10]) <= {hashed for hashed in order if smallest.takes(hashed)}


def test_the_brightness_is_the_mean_of_the_pictures_of_the_sample():
    vector = np.zeros(DIMENSION, np.float32).tobytes()
    collected = {
        "vectors": [(hashed(key), key, vector) for key in (b"/a", b"/b", b"/c")],
        "pictures": [(hashed(key), key, key, light) for key, light in ((b"/a", 100.0), (b"/c", 50.0), (b"/d", 255.0))],
    }
    sample = sampling.sample(collected, DIMENSION)
    assert (sample.brightness, sample.thumbnails) == (75.0, (b"/a", b"", b"/c"))


def test_failures_are_grouped_by_stage_and_error():
    kinds = {sampling.of_failure(Failure(b"/a", stage, error, "m", True))[0] for stage in "ab" for error in "xy"}
    assert len(kinds) == 4
    kind, (by, *facts) = sampling.of_failure(Failure(b"/a", "read", "OSError", "m", True))
    assert by == hashed(b"/a") and sampling.failures({kind: [(by, *facts)], "vectors": [(by, b"/a", b"")]}) == [
        FailedImage(b"/a", "read", "OSError", "m", True)
    ]
