"""transforms.write_tfrecord: the files as the readers of this field read them."""

import glob

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.public import tfxio

from transforms.elements.records import Embedding, ImageInfo, ImageRef
from transforms.models.spec import ModelFields
from transforms.write_tfrecord import WriteTFRecords

DIMENSION = 6
WRITTEN = ModelFields("a_model", "d" * 64, DIMENSION)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """A directory with one run: 200 embeddings, and the schema."""
    directory = str(tmp_path_factory.mktemp("output"))
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        halves = (
            pipeline | "Some" >> beam.Create(embeddings()[:150]),
            pipeline | "Rest" >> beam.Create(embeddings()[150:]),
        )
        _ = halves | WriteTFRecords(directory, "run", WRITTEN)
    return directory


def embeddings():
    return [
        Embedding(
            ImageInfo(ImageRef(b"/%d.jpg" % i, f"{i}-0", 3 * i, f"crc{i}=="), f"{i:064x}", "jpeg", i, 2 * i),
            np.arange(i, i + DIMENSION, dtype=np.float32),
        )
        for i in range(200)
    ]


def test_vectors_in_float16(tmp_path):
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        rows = (pipeline | beam.Create(embeddings()[:50]),)
        _ = rows | WriteTFRecords(str(tmp_path), "run", WRITTEN, "float16")
    assert "float16" in (tmp_path / "schema.pbtxt").read_text()
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in ("image/key", "embedding/float16")}
    files = [str(path) for path in tmp_path.rglob("part-*.tfrecord")]
    parsed = tf.data.TFRecordDataset(files).map(lambda record: tf.io.parse_single_example(record, features))
    vectors = {
        row["image/key"].numpy(): tf.io.decode_raw(row["embedding/float16"], tf.float16).numpy() for row in parsed
    }
    assert len(vectors) == 50
    np.testing.assert_array_equal(vectors[b"/7.jpg"], np.arange(7, 7 + DIMENSION))


def test_plain_tensorflow_reads_them(output):
    features = {
        "image/key": tf.io.FixedLenFeature([], tf.string),
        "image/sha256": tf.io.FixedLenFeature([], tf.string),
        "image/version": tf.io.FixedLenFeature([], tf.string),
        "image/format": tf.io.FixedLenFeature([], tf.string),
        "image/height": tf.io.FixedLenFeature([], tf.int64),
        "image/width": tf.io.FixedLenFeature([], tf.int64),
        "image/size": tf.io.FixedLenFeature([], tf.int64),
        "image/crc32c": tf.io.FixedLenFeature([], tf.string),
        "image/shard": tf.io.FixedLenFeature([], tf.string),
        "embedding": tf.io.FixedLenFeature([DIMENSION], tf.float32),
        "model/name": tf.io.FixedLenFeature([], tf.string),
        "model/digest": tf.io.FixedLenFeature([], tf.string),
    }
    files = glob.glob(f"{output}/embeddings/run/part-*.tfrecord")
    batches = tf.data.TFRecordDataset(files).batch(64).map(lambda batch: tf.io.parse_example(batch, features))
    rows = {}
    for batch in batches.as_numpy_iterator():
        for i, key in enumerate(batch["image/key"]):
            rows[key] = {name: values[i] for name, values in batch.items()}
    assert len(rows) == 200
    for i in range(200):
        row = rows[b"/%d.jpg" % i]
        np.testing.assert_array_equal(row.pop("embedding"), np.arange(i, i + DIMENSION))
        assert row == {
            "image/key": b"/%d.jpg" % i,
            "image/sha256": f"{i:064x}".encode(),
            "image/version": f"{i}-0".encode(),
            "image/format": b"jpeg",
            "image/height": i,
            "image/width": 2 * i,
            "image/size": 3 * i,
            "image/crc32c": f"crc{i}==".encode(),
            "image/shard": b"",
            "model/name": b"a_model",
            "model/digest": b"d" * 64,
        }


def test_tfxio_reads_them_with_the_schema(output):
    with open(f"{output}/schema.pbtxt") as file:
        schema = text_format.Parse(file.read(), schema_pb2.Schema())
    source = tfxio.TFExampleRecord(
        f"{output}/embeddings/*/part-*.tfrecord", schema=schema, telemetry_descriptors=["test"]
    )
    adapter = source.TensorAdapter()

    def check(batches):
        found = {}
        for batch in batches:
            tensors = adapter.ToBatchTensors(batch)
            assert tensors["embedding"].shape == (batch.num_rows, DIMENSION)
            found |= dict(zip(np.asarray(tensors["image/key"]), np.asarray(tensors["embedding"]), strict=True))
        assert sorted(found) == sorted(b"/%d.jpg" % i for i in range(200))
        assert all(found[b"/%d.jpg" % i].tolist() == list(range(i, i + DIMENSION)) for i in range(200))

    with TestPipeline(runner=FnApiRunner()) as pipeline:
        assert_that(pipeline | source.BeamSource(), check)
