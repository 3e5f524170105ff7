"""transforms.encoding.vectors: embeddings read back as one matrix, of one model, each key once."""

import numpy as np
import pytest

from tests.helpers import data_generation as data
from transforms.elements.records import Embedding, ImageInfo, ImageRef
from transforms.encoding import examples, vectors
from transforms.models.spec import ModelFields

DIGEST = "0123456789abcdef" * 4


def embeddings(keys, matrix, name="net", digest=DIGEST):
    infos = [ImageInfo(ImageRef(key, "1-2.0"), "ab" * 32, "jpeg", 4, 5) for key in keys]
    rows = [Embedding(info, vector) for info, vector in zip(infos, np.asarray(matrix, np.float32), strict=True)]
    return examples.encode_embeddings(rows, ModelFields(name, digest, len(matrix[0])))


def opened(path):
    return open(path, "rb")


def read(*paths):
    return vectors.read(map(str, paths), opened)


def test_all_files_in_one_matrix(tmp_path):
    matrix = np.random.default_rng(0).normal(size=(700, 5)).astype(np.float32)
    keys = [b"/photos/%d\xff.jpg" % i for i in range(700)]
    first = data.write_tfrecords(tmp_path / "a", embeddings(keys[:600], matrix[:600]))
    second = data.write_tfrecords(tmp_path / "b", embeddings(keys[600:], matrix[600:]))
    found = read(first, second)
    assert found.keys == tuple(keys) and (found.model_name, found.model_digest) == ("net", DIGEST)
    assert found.matrix.dtype == np.float32
    np.testing.assert_array_equal(found.matrix, matrix)


def test_of_a_key_the_last_vector_counts(tmp_path):
    first = data.write_tfrecords(tmp_path / "a", embeddings([b"1", b"2"], [[1, 1], [2, 2]]))
    second = data.write_tfrecords(tmp_path / "b", embeddings([b"3", b"1"], [[3, 3], [4, 4]]))
    found = read(first, second)
    assert found.keys == (b"1", b"2", b"3")
    np.testing.assert_array_equal(found.matrix, [[4, 4], [2, 2], [3, 3]])


def test_vectors_of_several_models_do_not_mix(tmp_path):
    first = data.write_tfrecords(tmp_path / "a", embeddings([b"1"], [[1, 1]]))
    for name, digest in [("net", "f" * 64), ("other", DIGEST)]:
        second = data.write_tfrecords(tmp_path / "b", embeddings([b"2"], [[1, 1]], name, digest))
        with pytest.raises(ValueError, match="expected those of one model; give the directory of one run") as raised:
            read(first, second)
        vectors_of = f"vectors of net (digest {DIGEST}) and of {name} (digest {digest})"
        assert f"{str(second)!r}: {vectors_of}: " in str(raised.value)
    second = data.write_tfrecords(tmp_path / "b", embeddings([b"2"], [[1, 1, 1]]))
    with pytest.raises(ValueError, match="vectors of 3 and of 2 dimensions"):
        read(first, second)


def test_files_without_embeddings(tmp_path):
    empty = data.write_tfrecords(tmp_path / "empty", [])
    with pytest.raises(ValueError, match="no embeddings: expected at least one"):
        read(empty)
    pictures = data.write_tfrecords(tmp_path / "images", [data.image_example(data.jpeg(), b"1")])
    with pytest.raises(ValueError, match=r"images': expected the feature '.*' in each tf.Example"):
        read(pictures)
    garbage = data.write_tfrecords(tmp_path / "garbage", [b"\xff\xff\xff"])
    with pytest.raises(ValueError, match="garbage': expected serialized tf.Examples"):
        read(garbage)
    broken = tmp_path / "broken"
    broken.write_bytes(data.write_tfrecords(tmp_path / "whole", embeddings([b"1"], [[1, 1]])).read_bytes()[:-3])
    with pytest.raises(ValueError, match="broken': a truncated TFRecord file"):
        read(broken)


def test_records_of_different_lengths_in_one_batch(tmp_path):
    mixed = embeddings([b"1"], [[1, 1]]) + embeddings([b"2"], [[1, 1, 1, 1]])
    with pytest.raises(ValueError, match="expected the feature 'embedding' in each tf.Example"):
        read(data.write_tfrecords(tmp_path / "mixed", mixed))
