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
    with pytest.raises(ValueError, match="checksum|truncated"):
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


def file_of(*framed):
    return io.BytesIO(b"".join(framed))


def flipped(framed, position):
    return framed[:position] + bytes([framed[position] ^ 1]) + framed[position + 1 :]


@pytest.mark.parametrize("position", [12, 15, 16, 19], ids=["first byte", "last byte", "checksum", "its end"])
def test_broken_data_costs_one_record(position):
    one, two, three = map(tfrecord.frame, (b"abcd", b"efgh", b"ijkl"))
    first, broken, last = tfrecord.records(file_of(one, flipped(two, position), three), 100)
    assert (first, last) == (b"abcd", b"ijkl")
    assert isinstance(broken, tfrecord.BrokenRecord)


def test_a_record_that_is_too_long_costs_one_record(monkeypatch):
    monkeypatch.setattr(tfrecord, "_SKIPPED_AT_ONCE", 64)
    one, two, three = map(tfrecord.frame, (b"abcd", bytes(1000), b"ijkl"))
    first, long, last = tfrecord.records(file_of(one, two, three), 999)
    assert (first, last) == (b"abcd", b"ijkl")
    assert isinstance(long, tfrecord.BrokenRecord)
    with pytest.raises(tfrecord.BrokenFile, match="truncated"):
        list(tfrecord.records(file_of(one, two[:500]), 999))


@pytest.mark.parametrize("position", [0, 7, 8, 11])
def test_a_broken_length_ends_the_file(position):
    one, two = map(tfrecord.frame, (b"abcd", b"efgh"))
    records = tfrecord.records(file_of(one, flipped(two, position), one), 100)
    assert next(records) == b"abcd"
    with pytest.raises(tfrecord.BrokenFile):
        next(records)


def test_an_unfinished_file_is_read_up_to_its_last_whole_record():
    framed = b"".join(map(tfrecord.frame, RECORDS))
    ends = [sum(map(tfrecord.framed_bytes, RECORDS[:count])) for count in range(len(RECORDS) + 1)]
    for cut in range(len(framed) + 1):
        whole = sum(end <= cut for end in ends) - 1
        assert list(tfrecord.read_whole(io.BytesIO(framed[:cut]), 2**20)) == RECORDS[:whole], cut


def test_an_unfinished_file_is_read_up_to_what_is_broken():
    one, two = map(tfrecord.frame, (b"abcd", b"efgh"))
    for position in range(len(two)):
        assert list(tfrecord.read_whole(file_of(one, flipped(two, position), one), 100)) == [b"abcd"]
    assert list(tfrecord.read_whole(file_of(one, tfrecord.frame(bytes(101)), one), 100)) == [b"abcd"]
    assert list(tfrecord.read_whole(file_of(one, bytes(1000)), 100)) == [b"abcd"]  # a filesystem's zeros after a crash


def test_a_record_of_just_the_largest_size_is_read():
    assert list(tfrecord.read(io.BytesIO(tfrecord.frame(bytes(999))), 999)) == [bytes(999)]


def test_a_record_that_is_too_long_is_never_in_memory_as_a_whole():
    class Sizes(io.BytesIO):
        asked = 0

        def read(self, size=-1):
            self.asked = max(self.asked, size if size >= 0 else 2**60)
            return super().read(size)

    file = Sizes(tfrecord.frame(bytes(3 * 2**20)) + tfrecord.frame(b"next"))
    long, following = tfrecord.records(file, 100)
    assert isinstance(long, tfrecord.BrokenRecord) and following == b"next" and file.asked <= 2**20


def test_whether_the_front_of_a_file_is_a_record():
    framed = tfrecord.frame(b"abcd")
    assert tfrecord.is_framed(framed[:12]) and tfrecord.is_framed(framed)
    assert not tfrecord.is_framed(framed[:11]) and not tfrecord.is_framed(b"")
    assert not any(tfrecord.is_framed(flipped(framed, position)) for position in range(12))


@pytest.mark.parametrize("missing", [1, 3, 4, 5])
def test_a_file_that_ends_within_its_last_record_is_truncated_and_not_broken_there(missing):
    one, two = map(tfrecord.frame, (b"abcd", b"efgh"))
    records = tfrecord.records(file_of(one, two[:-missing]), 100)
    assert next(records) == b"abcd"
    with pytest.raises(tfrecord.BrokenFile, match="a truncated TFRecord file: it ends within a record of 4 bytes"):
        next(records)
