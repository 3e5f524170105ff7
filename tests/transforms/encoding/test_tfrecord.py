"""transforms.encoding.tfrecord: framing as TensorFlow writes and reads it."""

import io

import pytest
import tensorflow as tf

from transforms.encoding import tfrecord

RECORDS = [b"", b"one", bytes(range(256)) * 40]


def test_tensorflow_reads_what_is_framed(tmp_path):
    path = tmp_path / "records"
    path.write_bytes(b"".join(map(tfrecord.frame, RECORDS)))
    assert list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) == RECORDS


def test_reads_what_tensorflow_writes(tmp_path):
    path = tmp_path / "records"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in RECORDS:
            writer.write(record)
    with path.open("rb") as file:
        assert list(tfrecord.read(file, 2**20)) == RECORDS


@pytest.mark.parametrize("record", RECORDS, ids=len)
def test_the_bytes_that_a_record_takes(record):
    assert tfrecord.framed_bytes(record) == len(tfrecord.frame(record))


def test_a_record_is_read_at_its_offset():
    file = io.BytesIO(b"".join(map(tfrecord.frame, RECORDS)))
    file.seek(sum(map(tfrecord.framed_bytes, RECORDS[:2])))
    assert next(tfrecord.read(file, 2**20)) == RECORDS[2]


@pytest.mark.parametrize("cut", [1, 4, 11, 12, 15, 19])
def test_truncated(cut):
    framed = tfrecord.frame(b"abcd")
    with pytest.raises(ValueError, match="checksum"):
        list(tfrecord.read(io.BytesIO(framed[:cut]), 2**20))


@pytest.mark.parametrize("position", range(20))
def test_any_flipped_bit_is_noticed(position):
    framed = bytearray(tfrecord.frame(b"abcd"))
    framed[position] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        list(tfrecord.read(io.BytesIO(bytes(framed)), 2**20))


def test_a_record_longer_than_allowed_is_not_read():
    framed = tfrecord.frame(bytes(1000))
    with pytest.raises(ValueError, match="a record of 1000 bytes: expected at most 999"):
        list(tfrecord.read(io.BytesIO(framed), 999))
