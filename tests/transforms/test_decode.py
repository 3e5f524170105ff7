"""transforms.decode: what is recorded of an image, and what becomes of a bad one."""

import hashlib

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from PIL import ImageFile

from tests.helpers import data_generation as data
from transforms.decode import DecodeImages
from transforms.decoders import journal
from transforms.elements import counters
from transforms.elements.records import EncodedBlock, EncodedImage, ImageInfo, ImageRef
from transforms.images import decoding


def block(seeds):
    contents = [(b"k%d" % seed, data.jpeg(seed)) for seed in seeds]
    return EncodedBlock(tuple(EncodedImage(ImageRef(key, "v", len(content)), content) for key, content in contents))


def test_good_and_bad_images():
    good = data.jpeg(0, 40, 60)
    images = [EncodedImage(ImageRef(b"good", "v1", len(good), "4waSgw==", True), good)]
    images += [
        EncodedImage(ImageRef(name.encode(), "v", len(content)), content)
        for name, (content, _) in data.broken_images().items()
    ]
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | beam.Create([EncodedBlock(tuple(images))]) | DecodeImages((20, 30))
        infos = outputs.main | "Infos" >> beam.Map(lambda block: (block.infos, block.pixels.shape, block.pixels.dtype))
        failures = outputs.failures | "Failures" >> beam.Map(lambda f: (f.key, f.stage, f.error, f.retryable))
        seconds = outputs.seconds | "Seconds" >> beam.Map(lambda busy: (busy.stage, busy.items, busy.calls))
        info = ImageInfo(
            ImageRef(b"good", "v1", len(good), "4waSgw==", True), hashlib.sha256(good).hexdigest(), "jpeg", 40, 60
        )
        assert_that(infos, equal_to([((info,), (1, 20, 30, 3), np.dtype(np.uint8))]), label="infos")
        expected = [(name.encode(), "decode", error, False) for name, (_, error) in data.broken_images().items()]
        assert_that(failures, equal_to(expected), label="failures")
        assert_that(seconds, equal_to([("decode", len(images), len(images))]), label="seconds")


def test_how_long_each_image_took_is_a_distribution():
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | beam.Create([block(range(3)), block(range(3, 5))]) | DecodeImages((8, 8))
    wanted = MetricsFilter().with_namespace(counters.NAMESPACE).with_name(counters.DECODE_MICROSECONDS)
    (found,) = pipeline.result.metrics().query(wanted)["distributions"]
    assert found.committed.count == 5 and 0 < found.committed.min <= found.committed.max < 5e6


def test_an_image_that_does_not_fit_into_memory_may_be_tried_again(monkeypatch):
    def load(image):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        content = data.encoded(data.photograph(0), "PNG")
        outputs = (
            pipeline | beam.Create([EncodedBlock((EncodedImage(ImageRef(b"k"), content),))]) | DecodeImages((8, 8))
        )
        failures = outputs.failures | beam.Map(lambda f: (f.key, f.stage, f.error, f.retryable))
        assert_that(failures, equal_to([(b"k", "decode", "OutOfMemory", True)]))


def test_options_reach_the_decoder():
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | beam.Create([block([0])]) | DecodeImages((8, 8), "pad", 5)
        errors = outputs.failures | beam.Map(lambda failure: failure.error)
        assert_that(errors, equal_to(["TooManyPixels"]))


def test_blocks_are_full_whatever_fails_between_the_images():
    broken = EncodedBlock((EncodedImage(ImageRef(b"broken"), b"no image"),))
    blocks = [block(range(3)), broken, block(range(3, 6)), block(range(6, 7))]
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | beam.Create(blocks, reshuffle=False) | DecodeImages((8, 8), batch_size=4)

        def check(decoded):
            assert [len(block) for block in decoded] == [4, 3]
            assert [info.ref.key for block in decoded for info in block.infos] == [b"k%d" % i for i in range(7)]
            for seed, pixels in enumerate(pixels for block in decoded for pixels in block.pixels):
                np.testing.assert_array_equal(pixels, decoding.decode(data.jpeg(seed), (8, 8)).pixels)

        assert_that(outputs.main, check)


def test_a_wrong_mode_is_told_at_construction():
    with pytest.raises(ValueError, match="resize_mode='fill': expected one of stretch, crop, pad"):
        DecodeImages((8, 8), "fill")


def test_only_the_version_that_has_killed_processes_is_left_out():
    ref = ImageRef(b"/a.jpg", "1")
    images = EncodedBlock((EncodedImage(ref, data.jpeg(1)), EncodedImage(ImageRef(b"/b.jpg", "2"), data.jpeg(2))))
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        decode = DecodeImages((8, 8), quarantine={journal.name(ref): 3, b"1\0/b.jpg": 2})
        outputs = pipeline | beam.Create([images]) | decode
        keys = outputs.main | beam.FlatMap(lambda block: [info.ref.key for info in block.infos])
        assert_that(keys, equal_to([b"/b.jpg"]), label="decoded")
        failures = outputs.failures | "Failures" >> beam.Map(lambda f: (f.key, f.error, f.message))
        message = "3 times, when a process of this run died, it was decoding this image"
        assert_that(failures, equal_to([(b"/a.jpg", "KilledTheProcess", message)]), label="failures")
