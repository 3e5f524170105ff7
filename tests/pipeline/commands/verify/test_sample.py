"""pipeline.commands.verify.sample: which records are drawn, and what is compared."""

import base64
import dataclasses
import hashlib

import google_crc32c
import numpy as np
import pytest

from pipeline.commands.listed_images import ListedImage
from pipeline.commands.verify import sample as verify_sample
from pipeline.commands.verify.findings import Findings
from pipeline.commands.verify.record_file import ImageFacts, Record
from pipeline.commands.verify.sample import Sample, check, similarity
from tests.helpers import data_generation as data
from transforms.images import decoding
from transforms.models.engines import loading

pytestmark = pytest.mark.slow


def record(key: bytes, encoded: bytes = b"", version: str = "", digest: str = "", vector=(1.0, 0.0)) -> Record:
    sha256 = hashlib.sha256(encoded).hexdigest().encode()
    crc32c = base64.b64encode(google_crc32c.value(encoded).to_bytes(4, "big"))
    facts = ImageFacts(b"jpeg", 96, 128, len(encoded), crc32c)
    return Record(key, version.encode(), sha256, digest.encode(), np.array(vector, np.float32), facts)


# Drawing.


def test_a_sample_depends_on_the_keys_alone():
    records = [record(b"/%d" % i) for i in range(500)]
    samples = []
    for order in (records, records[::-1]):
        sample = Sample(20)
        for drawn in order:
            sample.offer(drawn)
        samples.append(sorted(sample.records))
    assert samples[0] == samples[1] and len(samples[0]) == 20
    another = Sample(20, seed=1)
    for drawn in records:
        another.offer(drawn)
    assert sorted(another.records) != samples[0]


def test_a_sample_of_few_and_of_none():
    for size in (0, 5):
        sample = Sample(size)
        for drawn in (record(b"/a", version="1"), record(b"/b"), record(b"/a", version="2")):
            sample.offer(drawn)
        assert {key: drawn.version for key, drawn in sample.records.items()} == (
            {b"/a": b"2", b"/b": b""} if size else {}
        )


def test_cosines():
    assert similarity([1, 2], [2, 4]) == pytest.approx(1.0)
    assert similarity([1, 0], [0, 1]) == similarity([0, 0], [0, 1]) == similarity([1], [1, 0]) == 0.0
    assert similarity([0, 0], [0, 0]) == 1.0


# Comparing.


@pytest.fixture
def photo(tmp_path, model):
    """An image and its record, as the bundled model gives it."""
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded := data.jpeg(3))
    pixels = decoding.decode(encoded, model.image_size).pixels
    (vector,) = loading.load(model)(pixels[None])
    stat = path.stat()
    return path, record(bytes(path), encoded, f"{stat.st_size}-{stat.st_mtime:.6f}", model.digest, vector)


def outcome(model, *records, **facts):
    sample = Sample(len(records))
    for drawn in records:
        sample.offer(drawn)
    findings = Findings()
    check(sample, {model.digest.encode(): model.facts() | facts}, None, None, findings)
    return {kind: items.first for kind, items in (findings.problems | findings.notes).items()}


def test_the_recorded_vector(model, photo):
    _, drawn = photo
    assert outcome(model, drawn) == {}


def test_a_vector_that_the_model_does_not_give_is_found(model, photo):
    path, drawn = photo
    other = drawn._replace(vector=drawn.vector + np.arange(len(drawn.vector), dtype=np.float32) / 1000)
    ((kind, (item,)),) = outcome(model, other).items()
    assert kind == "an image of the sample has another vector" and item.startswith(f"{path}: cosine 0.")


@pytest.mark.parametrize(
    ("name", "value"), [("format", b"png"), ("height", 1), ("width", 1), ("size", 7), ("crc32c", b"AAAAAA==")]
)
def test_another_fact_of_the_image(model, photo, name, value):
    path, drawn = photo
    other = drawn._replace(image=drawn.image._replace(**{name: value}))
    ((kind, (item,)),) = outcome(model, other).items()
    assert kind == "a record of the sample says something else of its image"
    shown = [each.decode() if isinstance(each, bytes) else each for each in (value, getattr(drawn.image, name))]
    assert item == "{}: image/{} is {}, and {} in the image".format(path, name, *shown)


def test_an_image_with_other_bytes_is_found_and_not_compared(model, photo):
    path, drawn = photo
    assert outcome(model, drawn._replace(sha256=b"0" * 64)) == {
        "an image of the sample has another SHA-256": [str(path)],
        "the sample proves nothing": ["none of its 1 images could be compared"],
    }


def test_an_image_that_changed_and_one_that_is_gone(model, photo, tmp_path):
    path, drawn = photo
    second = tmp_path / "b.jpg"
    second.write_bytes(path.read_bytes())
    stat = second.stat()
    unchanged = drawn._replace(key=bytes(second), version=f"{stat.st_size}-{stat.st_mtime:.6f}".encode())
    path.write_bytes(data.jpeg(4))
    assert outcome(model, drawn, unchanged) == {"an image of the sample has changed since the run": [str(path)]}
    path.unlink()
    kinds = outcome(model, drawn)
    assert list(kinds) == ["the sample proves nothing", "an image of the sample cannot be read now"]


def test_an_image_of_a_shard_is_compared_once():
    records = {key: record(key) for key in (b"/a", b"/b", b"/c")}
    listing = [
        ListedImage(b"/a", b"1", b"x"),
        ListedImage(b"/other", b"1", b"y"),
        ListedImage(b"/b", b"1"),
        ListedImage(b"/a", b"2", b"z"),
    ]
    listing.append(ListedImage(b"/c", None, b""))
    assert list(verify_sample._in_shards(records, listing)) == [
        (b"/a", b"1", b"x", b"qTxfkw=="),
        (b"/c", b"", b"", b"AAAAAA=="),
    ]


@pytest.mark.parametrize(("cosine", "is_another"), [(0.99991, False), (0.99989, True)])
def test_vectors_of_other_batches_differ_in_their_last_bits_alone(model, monkeypatch, cosine, is_another):
    monkeypatch.setattr(loading, "load", lambda spec, size: lambda pixels: np.array([[1.0, 0.0]] * len(pixels)))
    records = {b"/%d" % i: record(b"/%d" % i, vector=(cosine, (1 - cosine**2) ** 0.5)) for i in range(40)}
    findings = Findings()
    pixels = ((key, np.zeros((2, 2, 3), np.uint8)) for key in records)
    assert verify_sample._compare(records, model, pixels, findings) == 40
    assert findings.total == (40 if is_another else 0)


def test_a_model_that_cannot_be_found_or_has_changed_proves_nothing(model, photo):
    _, drawn = photo
    kinds = outcome(model, drawn, name="inception_none")
    assert list(kinds) == ["the model of the sample cannot be used", "the sample proves nothing"]
    other = dataclasses.replace(model, digest="0" * 64)
    kinds = outcome(other, drawn._replace(model_digest=b"0" * 64))
    assert "'efficientnet_lite0' is another model now" in kinds["the model of the sample cannot be used"][0]
