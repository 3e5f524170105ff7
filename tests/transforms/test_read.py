"""transforms.read: files, TFRecords, tars; and what is broken in each."""

import io
import os
import tarfile

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from tests import data_generation as data
from transforms import read, storage
from transforms.read import ReadImages
from transforms.records import FAILURES, EncodedImage, ImageRef


def ref(path):
    metadata = storage.metadata(str(path))
    return ImageRef(os.fsencode(path), storage.version(metadata), metadata.size_in_bytes)


def check(refs, input_format, images, failures=()):
    """Asserts what ReadImages gives: {key: bytes} of the images, and (key, error, retryable) of the failures."""
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | beam.Create(refs) | ReadImages(input_format)
        found = outputs.images | beam.Map(lambda image: (image.key, image.encoded))
        failed = outputs[FAILURES] | beam.Map(lambda failure: (failure.key, failure.error, failure.retryable))
        assert_that(found, equal_to([(os.fsencode(k), v) for k, v in images.items()]), label="images")
        assert_that(failed, equal_to([(os.fsencode(k), e, r) for k, e, r in failures]), label="failures")


def test_files(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"one")
    (tmp_path / "b.jpg.gz").write_bytes(b"two, as stored")
    check(
        [ref(tmp_path / "a.jpg"), ref(tmp_path / "b.jpg.gz"), ImageRef(os.fsencode(tmp_path / "gone.jpg"), "v", 3)],
        "images",
        {tmp_path / "a.jpg": b"one", tmp_path / "b.jpg.gz": b"two, as stored"},
        [(tmp_path / "gone.jpg", "FileNotFoundError", True)],
    )


def test_an_unlisted_version_is_looked_up(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"one")
    known = ref(tmp_path / "a.jpg")
    assert list(read.read_file(ImageRef(known.key, "", -1))) == [EncodedImage(known.key, known.version, b"one")]


def test_a_uri_of_a_list_that_is_not_there(tmp_path):
    gone, elsewhere = os.fsencode(tmp_path / "gone.jpg"), b"nowhere://x/y.jpg"
    check(
        [ImageRef(gone, "", -1), ImageRef(elsewhere, "", -1)],
        "list",
        {},
        [(gone, "BeamIOError", True), (elsewhere, "ValueError", False)],
    )


def test_too_many_bytes_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "MAX_ENCODED_BYTES", 10)
    (tmp_path / "a.jpg").write_bytes(bytes(11))
    with pytest.raises(read.TooManyBytes, match="11 bytes: expected an image of at most 10"):
        list(read.read_file(ref(tmp_path / "a.jpg")))
    shard = data.write_tar(tmp_path / "s.tar", {"large.jpg": bytes(11), "small.jpg": b"x"})
    large, small = read.read_tar(ref(shard))
    assert (large.key, large.error) == (os.fsencode(f"{shard}#large.jpg"), "TooManyBytes")
    assert small.encoded == b"x"


def example(**features):
    feature = {
        name.replace("__", "/"): tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def test_tfrecords(tmp_path):
    shard = data.write_tfrecords(
        tmp_path / "s.tfrecord",
        [
            example(image__encoded=b"one", image__key=b"k1"),
            example(image__encoded=b"two"),
            example(label=b"3"),
            b"noise",
        ],
    )
    check(
        [ref(shard)],
        "tfrecord",
        {b"k1": b"one", f"{shard}#1": b"two"},
        [(f"{shard}#2", "ValueError", False), (f"{shard}#3", "ValueError", False)],
    )


def test_a_tfrecord_file_that_breaks_keeps_what_came_before(tmp_path):
    shard = data.write_tfrecords(
        tmp_path / "s.tfrecord", [example(image__encoded=b"one"), example(image__encoded=b"two")]
    )
    shard.write_bytes(shard.read_bytes()[:-3])
    check([ref(shard)], "tfrecord", {f"{shard}#0": b"one"}, [(shard, "ValueError", False)])


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2"])
def test_tar_in_webdataset_layout(tmp_path, mode):
    shard = data.write_tar(
        tmp_path / "s.tar",
        {
            "0001.jpg": b"one",
            "0001.json": b"{}",
            "0001.cls": b"3",
            "sub/0002.PNG": b"two",
            "../../etc/x.webp": b"three",
        },
        mode,
    )
    check(
        [ref(shard)],
        "tar",
        {f"{shard}#0001.jpg": b"one", f"{shard}#sub/0002.PNG": b"two", f"{shard}#../../etc/x.webp": b"three"},
    )


def test_tar_members_that_are_no_files(tmp_path):
    shard = tmp_path / "s.tar"
    with tarfile.open(shard, "w") as tar:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        name = tarfile.TarInfo(os.fsdecode(b"caf\xe9.jpg"))
        name.size = 3
        tar.addfile(name, io.BytesIO(b"one"))
    check([ref(shard)], "tar", {os.fsencode(shard) + b"#caf\xe9.jpg": b"one"})


def test_a_tar_that_breaks_keeps_what_came_before(tmp_path):
    shard = data.write_tar(tmp_path / "s.tar", {"1.jpg": bytes(2000), "2.jpg": bytes(2000)})
    shard.write_bytes(shard.read_bytes()[:4000])
    (tmp_path / "t.tar").write_bytes(b"no tar at all")
    check(
        [ref(shard), ref(tmp_path / "t.tar")],
        "tar",
        {f"{shard}#1.jpg": bytes(2000)},
        [(shard, "ReadError", False), (tmp_path / "t.tar", "ReadError", False)],
    )


def test_unknown_format():
    with pytest.raises(ValueError, match="input_format='zip': expected one of images, list, tfrecord, tar"):
        ReadImages("zip")
