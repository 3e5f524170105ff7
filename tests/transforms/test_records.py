"""transforms.records: what travels, survives the way there."""

import dataclasses
import pickle
import time

import numpy as np
import pytest
from apache_beam import coders

from transforms import records

INFO = records.ImageInfo(
    records.ImageRef(b"gs://b/\xff\xfe.jpg", "7-1.5", 2**33, "AAAAAA==", True), "ab" * 32, "jpeg", 480, 640
)
REF = records.ImageRef(b"gs://b/\xff\xfe.jpg", "1764550000123456", 2**33, "AAAAAA==", True)
KNOWN = records.Known(b"/tmp/\x80", "7-1.5", "ab" * 32, 2**33, "AAAAAA==", 1764550000.123456, "gs://b/part-0", 2**33)
EXAMPLES = [
    records.ImageRef(b"/tmp/\x80", "", -1),
    REF,
    KNOWN,
    records.Reuse(REF, KNOWN),
    records.Copy(REF, b"/first/\x80"),
    records.EncodedImage(records.ImageRef(b"k", "v", len(b"\0\xff" * 9), "AAAAAA==", True), b"\0\xff" * 9),
    records.EncodedBlock((records.EncodedImage(REF, b"one"), records.EncodedImage(REF, b""))),
    INFO,
    records.DecodedImage(INFO, np.arange(24, dtype=np.uint8).reshape(2, 4, 3)),
    records.DecodedBlock((INFO, INFO), np.arange(48, dtype=np.uint8).reshape(2, 2, 4, 3)),
    records.Embedding(INFO, np.array([1.5, -0.0, 3e-38], np.float32)),
    records.Failure(b"\xc3", "read", "OSError", "ü" * 3, True),
    records.StageSeconds.of("embed", 0.25),
    records.Shard("gs://b/part-00000-of-00001", 3),
]


def fields(record):
    return [(v.shape, v.dtype, v.tobytes()) if isinstance(v, np.ndarray) else v for v in dataclasses.astuple(record)]


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: type(record).__name__)
def test_round_trip_through_the_registered_coder(record):
    coder = coders.registry.get_coder(type(record))
    assert isinstance(coder, records.RecordCoder) and coder.is_deterministic()
    coder = pickle.loads(pickle.dumps(coder))  # noqa: S301 - as Beam ships coders to workers
    assert fields(coder.decode(coder.encode(record))) == fields(record)


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: type(record).__name__)
def test_records_are_frozen(record):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, dataclasses.fields(record)[0].name, None)


def test_a_failure_quotes_only_the_beginning_of_a_message():
    failure = records.Failure.of(b"k", "decode", ValueError("x" * 10_000))
    assert (failure.error, len(failure.message), failure.retryable) == ("ValueError", 500, False)


def test_the_time_of_one_item_ends_now_and_lasts_as_long_as_its_call():
    before = time.time()
    read = records.StageSeconds.of("read", 0.25)
    assert before <= read.ended <= time.time()
    assert (read.items, read.longest, read.calls, read.device) == (1, 0.25, 1.0, "")
    assert read.started == read.ended - 0.25
    # An image of a batch of four, in a call of two seconds.
    image = records.StageSeconds.of("embed", 0.5, calls=0.25, device="CPU", ended=100.0)
    assert (image.started, image.ended, image.longest) == (98.0, 100.0, 0.5)
    # All images of that batch.
    batch = records.StageSeconds.of("embed", 2.0, items=4, calls=1, device="CPU", ended=100.0)
    assert (batch.started, batch.ended, batch.items, batch.calls, batch.longest) == (98.0, 100.0, 4, 1, 0.5)
    # Four images one after the other.
    several = records.StageSeconds.of("decode", 2.0, items=4, longest=1.5, ended=100.0)
    assert (several.started, several.items, several.calls, several.longest) == (98.0, 4, 4.0, 1.5)


def test_a_sum_of_times():
    first = records.StageSeconds.of("embed", 0.5, calls=0.25, device="CPU", ended=100.0)
    second = records.StageSeconds.of("embed", 1.0, calls=0.25, device="CPU", ended=103.0)
    total = first.merge(second)
    assert total == second.merge(first)
    assert total == records.StageSeconds("embed", "CPU", 2, 1.5, longest=1.0, calls=0.5, started=98.0, ended=103.0)
    assert total.merge(dataclasses.replace(first, device="GPU")).device == ""
    assert total.since(90.0) == dataclasses.replace(total, started=8.0, ended=13.0)
