"""transforms.elements.record_coders: records survive the way to another worker."""

import dataclasses
import pickle

import numpy as np
import pytest
from apache_beam import coders

from transforms.elements import records
from transforms.elements.record_coders import RecordCoder, of_bytes, to_bytes

INFO = records.ImageInfo(
    records.ImageRef(b"gs://b/\xff\xfe.jpg", "7-1.5", 2**33, "AAAAAA==", True), "ab" * 32, "jpeg", 480, 640
)
REF = records.ImageRef(b"gs://b/\xff\xfe.jpg", "1764550000123456", 2**33, "AAAAAA==", True)
KNOWN = records.Known(b"/tmp/\x80", "7-1.5", "ab" * 32, 2**33, "AAAAAA==", 1764550000.123456, "gs://b/part-0", 2**33)
KNOWN_FILE = records.Known(b"/tmp/a", "7", "ab" * 32, 3, "", 1.0, is_file=True)
EXAMPLES = [
    records.ImageRef(b"/tmp/\x80", "", -1),
    REF,
    records.Member(records.ImageRef(b"/s\x80.tar#a", in_shard=b"/s\x80.tar"), 2**33),
    KNOWN,
    KNOWN_FILE,
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
    assert isinstance(coder, RecordCoder) and coder.is_deterministic()
    coder = pickle.loads(pickle.dumps(coder))  # noqa: S301 - as Beam ships coders to workers
    assert fields(coder.decode(coder.encode(record))) == fields(record)


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: type(record).__name__)
def test_round_trip_through_bytes(record):
    assert fields(of_bytes(type(record), to_bytes(record))) == fields(record)


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: type(record).__name__)
def test_records_are_frozen(record):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, dataclasses.fields(record)[0].name, None)
