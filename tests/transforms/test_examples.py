"""transforms.examples: records as the contract says, read back by others' readers."""

import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf

from transforms import examples
from transforms.records import Embedding, ImageInfo

KEYS = [b"/a.jpg", b"\xff\xfe not UTF-8", b""]


def embeddings(dimension=4, keys=KEYS):
    rng = np.random.default_rng(0)
    return [
        Embedding(ImageInfo(key, f"{i}-1.5", f"{i:064x}", "png", 10 + i, 2**33 + i), vector)
        for i, (key, vector) in enumerate(
            zip(keys, rng.standard_normal((len(keys), dimension), np.float32), strict=True)
        )
    ]


def test_each_feature_of_a_record():
    given = embeddings()
    records = examples.encode_embeddings(given, examples.Written("a model", "d" * 64, 4))
    assert len(records) == len(given)
    for record, embedding in zip(records, given, strict=True):
        features = tf.train.Example.FromString(record).features.feature
        info = embedding.info
        assert {name: list(getattr(value, value.WhichOneof("kind")).value) for name, value in features.items()} == {
            "image/key": [info.key],
            "image/sha256": [info.sha256.encode()],
            "image/version": [info.version.encode()],
            "image/format": [b"png"],
            "image/height": [info.height],
            "image/width": [info.width],
            "embedding": embedding.vector.tolist(),
            "model/name": [b"a model"],
            "model/digest": [b"d" * 64],
        }


def test_a_classifiers_record_has_its_best_classes_too():
    given = embeddings(4)
    written = examples.Written("m", "d", 4, ("background", "cat", "dog", "cow"), 2)
    for record, embedding in zip(examples.encode_embeddings(given, written), given, strict=True):
        features = tf.train.Example.FromString(record).features.feature
        best = embedding.vector.argsort()[::-1][:2]
        assert list(features["label/index"].int64_list.value) == best.tolist()
        names = [written.classes[index].encode() for index in best]
        assert list(features["label/name"].bytes_list.value) == names
        probabilities = tf.nn.softmax(embedding.vector).numpy()[best]
        np.testing.assert_allclose(features["label/score"].float_list.value, probabilities, rtol=1e-5)


def test_schemas_in_words():
    plain = examples.Written("m", "d", 1536)
    assert examples.shapes(examples.schema_text(plain)) == "vectors of 1536 dimensions"
    classifier = examples.Written("m", "d", 3, ("a", "b", "c"), 5)
    assert examples.shapes(examples.schema_text(classifier)) == "vectors of 3 dimensions and 3 classes"


@pytest.mark.parametrize("text", ["", "feature {", 'feature { name: "embedding" type: FLOAT }'])
def test_what_is_no_schema_of_ours(text):
    with pytest.raises(ValueError, match="expected a schema with the feature 'embedding'"):
        examples.shapes(text)


def image_example(**features):
    feature = {
        name.replace("__", "/"): tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        for name, values in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def test_decode_image():
    both = image_example(image__key=[b"k"], image__encoded=[b"\xff\xd8"], image__other=[b"z"])
    assert examples.decode_image(both) == (b"k", b"\xff\xd8")
    assert examples.decode_image(image_example(image__encoded=[b"\xff\xd8"])) == (None, b"\xff\xd8")


@pytest.mark.parametrize(
    "record",
    [b"no example", image_example(image__key=[b"k"]), image_example(image__encoded=[]), b""],
    ids=["noise", "key only", "empty list", "empty"],
)
def test_decode_image_of_something_else(record):
    with pytest.raises(ValueError, match="expected"):
        examples.decode_image(record)


def test_threads_may_share_the_encoder():
    given = embeddings(64, [b"%d" % i for i in range(200)])

    def encode(_):  # parsed: protocol buffers leave the order of a map open
        return [
            tf.train.Example.FromString(record)
            for record in examples.encode_embeddings(given, examples.Written("m", "d", 64))
        ]

    expected = encode(0)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(result == expected for result in pool.map(encode, range(32)))
