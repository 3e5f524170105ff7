"""transforms.encoding.image_shards: the images of TFRecords and tars, one after the other."""

import os
import random
from collections import Counter

import pytest
import tensorflow as tf

from tests.helpers import data_generation as data
from transforms.elements.records import EncodedImage, Failure, ImageRef
from transforms.encoding import compressed, image_shards, tfrecord
from transforms.storage import read_image, versioned
from transforms.storage.context import DEFAULT_STORAGE
from transforms.storage.versioned import ChangedSinceListed


def ref(path):
    return versioned.described(DEFAULT_STORAGE, ImageRef(os.fsencode(path)))


@pytest.mark.parametrize("input_format", ["tar", "tfrecord"])
@pytest.mark.parametrize("change", ["touched", "gone"])
def test_a_shard_that_changes_while_it_is_read(tmp_path, input_format, change):
    if input_format == "tar":
        shard = data.write_tar(tmp_path / "s.tar", {"1.jpg": b"one", "2.jpg": b"two"})
    else:
        shard = data.write_tfrecords(
            tmp_path / "s.tfrecord", [data.image_example(content) for content in (b"one", b"two")]
        )
    listed = ref(shard)
    images = image_shards.read(DEFAULT_STORAGE, listed, input_format)
    assert next(images).encoded == b"one"
    if change == "touched":
        os.utime(shard, (1, 1))
    else:
        shard.unlink()  # who has it open reads on
    assert next(images).encoded == b"two"
    with pytest.raises(ChangedSinceListed, match=f"expected version {listed.version} as listed, found "):
        next(images)


def test_tfrecords_that_tensorflow_compresses(tmp_path):
    for kind in ("GZIP", "ZLIB"):
        with tf.io.TFRecordWriter(str(tmp_path / kind), kind) as writer:
            writer.write(data.image_example(b"one"))
        (image,) = image_shards.read(DEFAULT_STORAGE, ref(tmp_path / kind), "tfrecord")
        assert image.encoded == b"one"


def test_a_record_whose_length_looks_like_gzip(tmp_path):
    record = data.image_example(bytes(0x088B1F - 35))
    assert tfrecord.frame(record)[:3] == b"\x1f\x8b\x08"
    shard = data.write_tfrecords(tmp_path / "s", [record])
    (image,) = image_shards.read(DEFAULT_STORAGE, ref(shard), "tfrecord")
    assert len(image.encoded) == 0x088B1F - 35


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_that_breaks_keeps_what_came_before(tmp_path, mode):
    noise = random.Random(1).randbytes
    members = {"1.jpg": noise(10**5), "2.jpg": noise(2 * 10**6), "3.jpg": noise(10**5)}
    shard = data.write_tar(tmp_path / "s.tar", members, mode)
    shard.write_bytes(shard.read_bytes()[: 10**6])
    keys = []
    with pytest.raises(compressed.BrokenStream, match="truncated"):
        keys.extend(image.ref.key for image in image_shards.read(DEFAULT_STORAGE, ref(shard), "tar"))
    assert keys == ([os.fsencode(f"{shard}#1.jpg")] if mode != "w:xz" else keys)  # xz has blocks of many megabytes


def test_members_of_too_many_bytes_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(read_image, "MAX_ENCODED_BYTES", 10)
    shard = data.write_tar(tmp_path / "s.tar", {"large.jpg": bytes(11), "small.jpg": b"x"})
    large, small = image_shards.read(DEFAULT_STORAGE, ref(shard), "tar")
    assert small.ref.crc32c == versioned.crc32c(b"x")
    assert (large.key, large.error) == (os.fsencode(f"{shard}#large.jpg"), "TooManyBytes")
    assert small.encoded == b"x"


def test_an_error_of_the_shard_is_a_failure_under_its_key(tmp_path):
    shard = data.write_tar(tmp_path / "s.tar", {"1.jpg": b"one", "2.jpg": bytes(2000), "a.txt": b"", "._3.jpg": b""})
    shard.write_bytes(shard.read_bytes()[:2000])
    passed_over = Counter()
    image, failure = image_shards.read_or_failure(DEFAULT_STORAGE, ref(shard), "tar", passed_over, False)
    assert isinstance(image, EncodedImage) and isinstance(failure, Failure)
    assert (failure.key, failure.stage, failure.retryable) == (os.fsencode(shard), "read", False)
