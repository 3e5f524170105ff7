"""transforms.encoding.examples: records as the contract says, read back by others' readers."""

import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf

from transforms.elements.records import Embedding, ImageInfo, ImageRef
from transforms.encoding import examples
from transforms.models.spec import ModelFields

MODEL = ModelFields("m", "d" * 64, 4)
KEYS = [b"/a.jpg", b"\xff\xfe not UTF-8", b""]


def embeddings(dimension=4, keys=KEYS):
    rng = np.random.default_rng(0)
    return [
        Embedding(
            ImageInfo(ImageRef(key, f"{i}-1.5", 2**40 + i, f"crc{i}=="), f"{i:064x}", "png", 10 + i, 2**33 + i), vector
        )
        for i, (key, vector) in enumerate(
            zip(keys, rng.standard_normal((len(keys), dimension), np.float32), strict=True)
        )
    ]


def test_each_feature_of_a_record():
    given = embeddings()
    records = examples.encode_embeddings(given, ModelFields("a model", "d" * 64, 4))
    assert len(records) == len(given)
    for record, embedding in zip(records, given, strict=True):
        features = tf.train.Example.FromString(record).features.feature
        info = embedding.info
        assert {name: list(getattr(value, value.WhichOneof("kind")).value) for name, value in features.items()} == {
            "image/key": [info.ref.key],
            "image/sha256": [info.sha256.encode()],
            "image/version": [info.ref.version.encode()],
            "image/format": [b"png"],
            "image/height": [info.height],
            "image/width": [info.width],
            "image/size": [info.ref.size],
            "image/crc32c": [info.ref.crc32c.encode()],
            "image/shard": [info.ref.in_shard],
            "embedding": embedding.vector.tolist(),
            "model/name": [b"a model"],
            "model/digest": [b"d" * 64],
        }


def test_a_classifiers_record_has_its_best_classes_too():
    given = embeddings(4)
    written = ModelFields("m", "d", 4, ("background", "cat", "dog", "cow"), 2)
    for record, embedding in zip(examples.encode_embeddings(given, written), given, strict=True):
        features = tf.train.Example.FromString(record).features.feature
        best = embedding.vector.argsort()[::-1][:2]
        assert list(features["label/index"].int64_list.value) == best.tolist()
        names = [written.classes[index].encode() for index in best]
        assert list(features["label/name"].bytes_list.value) == names
        probabilities = tf.nn.softmax(embedding.vector).numpy()[best]
        np.testing.assert_allclose(features["label/score"].float_list.value, probabilities, rtol=1e-5)


def test_a_record_in_float16_has_the_bytes_of_its_vector():
    rows, model = embeddings(4), MODEL
    records = examples.encode_embeddings(rows, model, "float16")
    for record, embedding in zip(records, rows, strict=True):
        features = tf.train.Example.FromString(record).features.feature
        (stored,) = features["embedding/float16"].bytes_list.value
        decoded = tf.io.decode_raw(stored, tf.float16, little_endian=True).numpy()
        np.testing.assert_array_equal(decoded, embedding.vector.astype(np.float16))
        assert "embedding" not in features
    keys, vectors, models, shards = examples.decode_embeddings(records)
    assert shards == [b""] * len(records)
    assert (keys, models) == (KEYS, [("m", "d" * 64)] * 3) and vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.stack([row.vector for row in rows]).astype(np.float16))
    types = [examples.vector_type(record) for record in (*records, *examples.encode_embeddings(rows, model))]
    assert types == ["float16"] * 3 + ["float32"] * 3
    text = examples.schema_text(model, "float16")
    assert examples.shapes(text) == "vectors of 4 dimensions in float16"


@pytest.mark.parametrize("stored", [[b"ab", b"abcd"], [b"abc", b"abc"], [b"", b""]], ids=["sizes", "odd", "empty"])
def test_bytes_that_are_no_vectors_in_float16(stored):
    records = []
    for record, value in zip(examples.encode_embeddings(embeddings(4), MODEL, "float16"), stored, strict=False):
        example = tf.train.Example.FromString(record)
        example.features.feature["embedding/float16"].bytes_list.value[:] = [value]
        records.append(example.SerializeToString())
    with pytest.raises(ValueError, match="expected the feature 'embedding/float16' .*two bytes for each component"):
        examples.decode_embeddings(records)


def test_the_schema_asks_for_each_feature_once_in_each_record():
    written = ModelFields("m", "d", 5, ("a", "b", "c", "d", "e"), 2)
    features = {feature.name: feature for feature in examples.schema(written).feature}
    sizes = {"embedding": [5], "label/index": [2], "label/name": [2], "label/score": [2]}
    (record,) = examples.encode_embeddings(embeddings(5, [b"k"]), written)
    assert set(features) == set(tf.train.Example.FromString(record).features.feature)
    shard = features.pop("image/shard")  # which records of earlier versions lack
    assert (shard.value_count.min, shard.value_count.max, shard.HasField("presence")) == (1, 1, False)
    for name, feature in features.items():
        assert (feature.presence.min_fraction, feature.presence.min_count) == (1.0, 1)
        assert feature.HasField("shape") and [dim.size for dim in feature.shape.dim] == sizes.get(name, [])


def test_schemas_in_words():
    plain = ModelFields("m", "d", 1536)
    assert examples.shapes(examples.schema_text(plain)) == "vectors of 1536 dimensions"
    classifier = ModelFields("m", "d", 3, ("a", "b", "c"), 5)
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


def encoded(given, digest="d"):
    return examples.encode_embeddings(given, ModelFields("m", digest, 4))


def test_identities_without_the_vectors():
    given = embeddings()
    records = [*encoded(given[:2], "one"), *encoded(given[2:], "another")]
    assert examples.decode_identities(records) == [
        (info.ref.key, info.ref.version, info.sha256, info.ref.size, info.ref.crc32c, digest, info.ref.in_shard)
        for info, digest in zip((each.info for each in given), ("one", "one", "another"), strict=True)
    ]
    assert examples.decode_identities(records)[1].model_digest == "one"
    assert examples.decode_identities([]) == []


def test_facts_of_an_image():
    assert examples.decode_facts(encoded(embeddings())) == [
        ("png", each.info.height, each.info.width) for each in embeddings()
    ]
    assert examples.decode_facts([]) == []


IDENTITY = {
    "image/key": b"k",
    "image/version": b"7",
    "image/sha256": b"ab",
    "image/size": 9,
    "image/crc32c": b"c",
    "model/digest": b"d",
}


def example(features):
    """A serialized tf.Example of features that are bytes, integers, or lists of them."""
    feature = {}
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        if all(isinstance(each, int) for each in values):
            feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        else:
            feature[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def test_an_identity_as_anyone_may_write_it():
    (identity,) = examples.decode_identities([example(IDENTITY | {"other": 5})])
    assert identity == (b"k", "7", "ab", 9, "c", "d", None)
    assert not identity.is_file


def test_a_record_tells_whether_its_image_was_a_file():
    told = [IDENTITY | {"image/shard": shard} for shard in (b"", b"/s.tar")]
    mixed = [example(features) for features in (*told, IDENTITY)]  # the last is of an earlier version
    assert [(own.shard, own.is_file) for own in examples.decode_identities(mixed)] == [
        (b"", True),
        (b"/s.tar", False),
        (None, False),
    ]
    assert examples.decode_identities(mixed[1:2])[0].ref().in_shard == b"/s.tar"
    with pytest.raises(ValueError, match="expected at most one value of the feature 'image/shard'"):
        examples.decode_identities([*mixed, example(IDENTITY | {"image/shard": [b"", b""]})])
    with pytest.raises(ValueError, match="expected the feature 'image/shard'"):
        examples.decode_identities([example(IDENTITY | {"image/shard": [b"", b""]})])


@pytest.mark.parametrize("name", IDENTITY)
def test_an_identity_lacks_a_feature(name):
    lacks = example({other: value for other, value in IDENTITY.items() if other != name})
    for records in ([lacks], [example(IDENTITY), lacks], [lacks, example(IDENTITY)]):
        with pytest.raises(ValueError, match=f"expected the feature '{name}' in each tf.Example"):
            examples.decode_identities(records)


@pytest.mark.parametrize(
    "record",
    [
        b"no example",
        b"",
        example(IDENTITY | {"image/size": b"9"}),
        example(IDENTITY | {"image/key": 5}),
        example(IDENTITY | {"image/key": [b"k", b"l"]}),
        example(IDENTITY | {"image/key": []}),
    ],
    ids=["noise", "empty", "size in letters", "key in numbers", "two keys", "no key"],
)
def test_what_has_no_identity(record):
    with pytest.raises(ValueError, match="expected"):
        examples.decode_identities([record])
    with pytest.raises(ValueError, match="expected"):
        examples.decode_identities([example(IDENTITY), record])


@pytest.mark.parametrize("record", [b"no example", b"", example(IDENTITY)], ids=["noise", "empty", "no facts"])
def test_what_has_no_facts(record):
    for records in ([record], [*encoded(embeddings()), record]):
        with pytest.raises(ValueError, match="expected"):
            examples.decode_facts(records)


def test_threads_may_share_the_encoder():
    given = embeddings(64, [b"%d" % i for i in range(200)])

    def encode(_):  # parsed: protocol buffers leave the order of a map open
        return [
            tf.train.Example.FromString(record)
            for record in examples.encode_embeddings(given, ModelFields("m", "d", 64))
        ]

    expected = encode(0)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(result == expected for result in pool.map(encode, range(32)))


def test_threads_decode_at_once():
    # With one decoder for all of them the process crashes in here: it works without Python's lock.
    records = examples.encode_embeddings(embeddings(1280, [b"%d" % i for i in range(500)]), ModelFields("m", "d", 1280))
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: examples.decode_identities(records), range(40)):
            assert [identity.key for identity in found] == [b"%d" % i for i in range(500)]


@pytest.mark.parametrize("kept", [40, 100, 200, -3])
def test_after_a_broken_record_the_next_one_is_decoded(kept):
    (record,) = examples.encode_embeddings(embeddings(1280, [b"7"]), ModelFields("m", "d", 1280))
    with pytest.raises(ValueError, match="expected"):
        examples.decode_identities([record[:kept]])
    assert examples.decode_identities([record])[0].key == b"7"


def test_records_of_two_dimensions_are_no_batch_even_if_their_sum_can_be_divided():
    records = [
        examples.encode_embeddings(embeddings(dimension)[:1], ModelFields("m", "d" * 64, dimension))[0]
        for dimension in (2, 4)
    ]
    with pytest.raises(ValueError, match="expected the feature 'embedding' in each tf.Example"):
        examples.decode_embeddings(records)
