"""pipeline.commands.verify.record_file: it reads what the writer writes, and notices whatever is done to it."""

import io
import struct

import google_crc32c
import numpy as np
import pytest

from pipeline.commands.verify import record_file, schema_file
from pipeline.commands.verify.record_file import Expected, Feature
from tests.helpers import outputs
from transforms.encoding import examples, tfrecord

COLUMNS = schema_file.columns(examples.schema_text(outputs.MODEL.fields()).encode())
EXPECTED = Expected(COLUMNS, b"tiny", b"d" * 64)


def encoded(*, model=outputs.MODEL, **changes):
    (record,) = examples.encode_embeddings([outputs.embedding(b"/caf\xe9", 1, **changes)], model.fields())
    return record


def frames(content):
    return [(frame.offset, frame.record, frame.problem) for frame in record_file.frames(io.BytesIO(content))]


# Framing.


def test_frames_of_the_writer():
    records = [b"", b"a", b"b" * 100_000]
    content = b"".join(map(tfrecord.frame, records))
    assert [(record, problem) for _, record, problem in frames(content)] == [(record, "") for record in records]
    assert [offset for offset, _, _ in frames(content)] == [0, 16, 33]


def test_a_checksum_as_the_specification_has_it():
    """The published definition, in other words than the module's."""
    crc = google_crc32c.value(b"abc")
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
    assert record_file._matches(b"abc", struct.pack("<I", masked))
    assert not record_file._matches(b"abd", struct.pack("<I", masked))


@pytest.mark.parametrize("position", range(19))
def test_a_flipped_bit_of_the_second_record(position):
    content = b"".join(map(tfrecord.frame, (b"one", b"two", b"three")))
    broken = bytearray(content)
    broken[19 + position] ^= 1
    first, *others = frames(bytes(broken))
    assert first == (0, b"one", "") and "checksum" in others[0][2]
    if position < 12:  # the length and its checksum
        assert len(others) == 1 and others[0][2].endswith("nothing from here is read")
    else:
        assert others[1] == (38, b"three", "")


@pytest.mark.parametrize("size", range(1, 19))
def test_a_file_that_ends_early(size):
    content = tfrecord.frame(b"one") + tfrecord.frame(b"two")[:size]
    assert frames(content)[1:] == [(19, b"", "the file ends in the middle of a record")]


def test_a_length_that_no_memory_holds():
    length = struct.pack("<Q", 2**62)
    crc = google_crc32c.value(length)
    head = length + struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
    (frame,) = frames(head + b"x")
    assert frame[2].startswith("a record of 4,611,686,018,427,387,904 bytes")


# Records.


def test_a_record_of_the_writer():
    record = record_file.parse(encoded(), EXPECTED)
    embedding = outputs.embedding(b"/caf\xe9", 1)
    assert (record.key, record.version, record.image.size) == (b"/caf\xe9", b"1", 101)
    assert (record.sha256, record.model_digest) == (b"%064x" % 1, b"d" * 64)
    assert np.array_equal(record.vector, embedding.vector) and record.vector.dtype == np.float32


@pytest.mark.slow
def test_the_message_is_that_of_tensorflow():
    from tensorflow.core.example import example_pb2

    example = example_pb2.Example.FromString(encoded())
    example.features.feature["empty"].SetInParent()
    example.features.feature["ints"].int64_list.value.extend([-1, 2**62])
    parsed = record_file.features(example.SerializeToString())
    assert parsed.keys() == example.features.feature.keys()
    assert parsed["empty"] == Feature("", ())
    assert (parsed["ints"].kind, list(parsed["ints"].values)) == ("int", [-1, 2**62])
    floats = example.features.feature["embedding"].float_list.value
    assert list(parsed["embedding"].values) == list(floats)


@pytest.mark.parametrize("record", [b"\xff", b"\x0a\xff", b"\x0a\x05hello"], ids=repr)
def test_what_is_no_example_is_refused(record):
    with pytest.raises(ValueError, match="not a tf.Example"):
        record_file.parse(record, EXPECTED)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sha256": "0" * 63}, "image/sha256 is 0{63}, expected 64 hex digits"),
        ({"sha256": "A" * 64}, "image/sha256 is A{64}, expected 64 hex digits"),
        ({"height": 0}, "image/height is 0"),
        ({"width": -1}, "image/width is -1"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_values_that_cannot_be(changes, problem):
    with pytest.raises(ValueError, match=rf"^/caf\\xe9: {problem}$"):
        record_file.parse(encoded(**changes), EXPECTED)


def test_a_vector_in_float16():
    image = outputs.embedding(b"/a.jpg", 1)
    (record,) = examples.encode_embeddings([image], outputs.MODEL.fields(), "float16")
    text = examples.schema_text(outputs.MODEL.fields(), "float16")
    columns = schema_file.columns(text.encode())
    assert columns[record_file.VECTOR] == ("float", None)
    vector = record_file.parse(record, Expected(columns | {record_file.VECTOR: ("float", 4)})).vector
    np.testing.assert_array_equal(vector, image.vector.astype(np.float16))
    with pytest.raises(ValueError, match="embedding has 4 values of type float, expected 5 float"):
        record_file.parse(record, Expected(columns | {record_file.VECTOR: ("float", 5)}))
    example = record_file._Example.FromString(record)
    example.features.feature["embedding/float16"].bytes.value[:] = [b"odd"]
    with pytest.raises(ValueError, match="embedding/float16 has 3 bytes, expected two for each component"):
        record_file.features(example.SerializeToString())


def altered(name, **values):
    example = record_file._Example.FromString(encoded())
    example.features.feature[name].Clear()
    if not values:
        del example.features.feature[name]
    for kind, value in values.items():
        getattr(example.features.feature[name], kind).value.extend(value)
    return example.SerializeToString()


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (altered("embedding"), "no feature embedding"),
        (altered("embedding", float=[1.0] * 3), "embedding has 3 values of type float, expected 4 float"),
        (altered("embedding", int=[1] * 4), "embedding has 4 values of type int, expected 4 float"),
        (altered("embedding", float=[1.0, float("nan"), 0.0, 0.0]), "its vector is not finite"),
        (altered("embedding", float=[1.0, float("inf"), 0.0, 0.0]), "its vector is not finite"),
        (altered("image/crc32c", bytes=[b"AAAA"]), "image/crc32c is AAAA, expected 4 bytes in base64"),
        (altered("image/crc32c", bytes=[b"?"]), "image/crc32c is ?, expected 4 bytes in base64"),
        (altered("image/size", int=[0]), "image/size is 0"),
        (altered("image/size", int=[1, 2]), "image/size has 2 values of type int, expected 1 int"),
        (altered("model/name", bytes=[b"other"]), "model/name is other, and tiny in the report"),
        (altered("model/digest", bytes=[b"e" * 64]), f"model/digest is {'e' * 64}, and {'d' * 64} in the report"),
        (altered("extra", int=[1]), "a feature extra that the schema does not have"),
    ],
)
def test_records_of_another_form(record, problem):
    with pytest.raises(ValueError) as error:
        record_file.parse(record, EXPECTED)
    assert str(error.value) == f"/caf\\xe9: {problem}"


def test_a_record_without_a_key():
    with pytest.raises(ValueError, match="^no feature image/key$"):
        record_file.parse(altered("image/key"), EXPECTED)


def test_a_record_whose_report_is_gone():
    assert len(record_file.parse(encoded(), Expected(schema_file.COLUMNS)).vector) == 4
    with pytest.raises(ValueError, match="embedding has 0 values"):
        record_file.parse(altered("embedding", float=[]), Expected(schema_file.COLUMNS))


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (altered("image/key", bytes=[b""]), ": image/key is empty"),
        (
            altered("image/crc32c", bytes=[b"AAAA?AA=="]),
            "/caf\\xe9: image/crc32c is AAAA?AA==, expected 4 bytes in base64",
        ),
        (altered("image/sha256", bytes=[b"0" * 65]), f"/caf\\xe9: image/sha256 is {'0' * 65}, expected 64 hex digits"),
        (altered("image/height", int=[-5]), "/caf\\xe9: image/height is -5"),
    ],
)
def test_values_that_only_look_right(record, problem):
    with pytest.raises(ValueError) as error:
        record_file.parse(record, EXPECTED)
    assert str(error.value) == problem


def test_all_that_is_wrong_with_a_record_is_said():
    record = encoded(sha256="no digest", height=0, width=0)
    with pytest.raises(ValueError) as error:
        record_file.parse(record, EXPECTED._replace(model_name=b"other"))
    assert str(error.value) == (
        "/caf\\xe9: image/sha256 is no digest, expected 64 hex digits; image/height is 0; image/width is 0; "
        "model/name is tiny, and other in the report"
    )


def test_a_record_of_just_the_largest_size_is_read(monkeypatch):
    monkeypatch.setattr(record_file, "MAX_RECORD_BYTES", 3)
    assert [frame[1:] for frame in frames(tfrecord.frame(b"one"))] == [(b"one", "")]
    (frame,) = frames(tfrecord.frame(b"four"))
    assert frame[2].startswith("a record of 4 bytes, more than any embedding")
