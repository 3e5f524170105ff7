"""transforms.decode_in_processes: the outputs of DecodeImages, by processes. test_pool.py kills and hangs them."""

import dataclasses
import os

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from tests.helpers import data_generation as data
from transforms.decode_in_processes import WAIT, DecodeInProcesses
from transforms.decoders import journal
from transforms.elements import counters
from transforms.elements.records import EncodedBlock, EncodedImage, ImageRef
from transforms.images import decoding

pytestmark = pytest.mark.slow


def photographs(directory, count):
    for seed in range(count):
        (directory / f"{seed:02}.jpg").write_bytes(data.jpeg(seed))
    return [ImageRef(os.fsencode(directory / f"{seed:02}.jpg")) for seed in range(count)]


def seed(info):
    return int(info.ref.key[-6:-4])


def check_blocks(lengths, count):
    def check(blocks):
        assert sorted(map(len, blocks)) == sorted(lengths)
        by_seed = {
            seed(info): pixels for block in blocks for info, pixels in zip(block.infos, block.pixels, strict=True)
        }
        assert sorted(by_seed) == list(range(count))
        for number, pixels in by_seed.items():
            np.testing.assert_array_equal(pixels, decoding.decode(data.jpeg(number), (8, 8)).pixels)

    return check


@pytest.mark.parametrize("read", ["by the processes", "before"])
def test_full_blocks_failures_times_and_counts(tmp_path, read):
    refs = photographs(tmp_path, 21)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    images = [*refs, ImageRef(os.fsencode(tmp_path / "broken.jpg"))]
    expected = {("broken.jpg", "decode", "UnknownFormat"), ("deadly.jpg", "decode", "KilledTheProcess")}
    deadly = ImageRef(os.fsencode(tmp_path / "deadly.jpg"))
    if read == "before":
        images = [EncodedImage(ref, open(ref.key, "rb").read()) for ref in images]  # noqa: SIM115
        images = [EncodedBlock((*images, EncodedImage(deadly, b"")))]
    else:
        images += [ImageRef(os.fsencode(tmp_path / "gone.jpg")), deadly]
        expected.add(("gone.jpg", "read", "FileNotFoundError"))
    quarantine = {journal.name(deadly): 2, journal.name(dataclasses.replace(refs[0], version="another")): 2}
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        decode = DecodeInProcesses((8, 8), batch_size=8, processes=2, quarantine=quarantine)
        outputs = pipeline | beam.Create(images, reshuffle=False) | decode
        assert_that(outputs.main, check_blocks([8, 8, 5], 21), label="blocks")
        failures = outputs.failures | beam.Map(lambda f: (os.path.basename(f.key).decode(), f.stage, f.error))
        assert_that(failures, equal_to(list(expected)), label="failures")
        of_steps = outputs.seconds | beam.Filter(lambda busy: busy.stage != WAIT)
        items = of_steps | beam.Map(lambda busy: (busy.stage, busy.items)) | beam.CombinePerKey(sum)
        times = [("decode", 22)] + [("read", 23)] * (read == "by the processes")
        assert_that(items, equal_to(times), label="times")
    of_images = MetricsFilter().with_namespace(counters.NAMESPACE)
    found = {
        metric.key.metric.name: metric.committed for metric in pipeline.result.metrics().query(of_images)["counters"]
    }
    assert found[counters.IMAGES_DECODED] == 21
    if read == "by the processes":
        assert found[counters.IMAGES_READ] == 22
        assert found[counters.BYTES_READ] == sum(len(data.jpeg(number)) for number in range(21)) + len(b"no image")


def test_a_block_has_images_of_one_window(tmp_path):
    refs = photographs(tmp_path, 9)
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        at_times = beam.Map(lambda ref: TimestampedValue(ref, refs.index(ref))).with_output_types(ImageRef)
        in_windows = pipeline | beam.Create(refs, reshuffle=False) | at_times | beam.WindowInto(FixedWindows(4))
        outputs = in_windows | DecodeInProcesses((8, 8), batch_size=8, processes=1)
        of_window = beam.Map(lambda block, window=beam.DoFn.WindowParam: (window.start, sorted(map(seed, block.infos))))
        assert_that(outputs.main | of_window, equal_to([(0, [0, 1, 2, 3]), (4, [4, 5, 6, 7]), (8, [8])]))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"resizing": "fill"}, "resize_mode='fill': expected one of stretch, crop, pad"),
        ({"processes": 0}, "processes=0: expected a number from 1, or -1 for one a core"),
        ({"timeout": 0}, "timeout=0: expected a number of seconds above 0"),
        ({"batch_size": 0}, "batch_size=0: expected a number of images from 1"),
        ({"read_concurrency": 0}, "read_concurrency=0: expected from 1 to 256"),
    ],
)
def test_wrong_attributes_are_told_at_construction(attributes, message):
    with pytest.raises(ValueError, match=message):
        DecodeInProcesses((8, 8), **attributes)
