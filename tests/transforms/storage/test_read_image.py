"""transforms.storage.read_image: one file as an image as stored, or the reason why not."""

import gzip
import tarfile

import pytest

from transforms.elements.records import EncodedImage, ImageRef
from transforms.storage import files, read_image, versioned
from transforms.storage.context import DEFAULT_STORAGE, Storage
from transforms.storage.stores import gcs


def ref(path):
    return versioned.ref_of(files.described(str(path)))


def test_an_unlisted_version_is_looked_up(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"one")
    known = ref(tmp_path / "a.jpg")
    expected = EncodedImage(ImageRef(known.key, known.version, len(b"one"), versioned.crc32c(b"one")), b"one")
    assert read_image.read(DEFAULT_STORAGE, ImageRef(known.key, "", -1)) == expected


def test_too_many_bytes_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(read_image, "MAX_ENCODED_BYTES", 10)
    (tmp_path / "a.jpg").write_bytes(bytes(11))
    with pytest.raises(read_image.TooManyBytes, match="11 bytes: expected an image of at most 10"):
        read_image.read(DEFAULT_STORAGE, ref(tmp_path / "a.jpg"))


def test_an_image_of_just_the_largest_size_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(read_image, "MAX_ENCODED_BYTES", 10)
    (tmp_path / "a.jpg").write_bytes(bytes(10))
    assert read_image.read(DEFAULT_STORAGE, ref(tmp_path / "a.jpg")).encoded == bytes(10)


def test_too_many_bytes_are_refused_before_they_are_read(monkeypatch):
    monkeypatch.setattr(versioned, "read", lambda *args: pytest.fail("it was read"))
    with pytest.raises(read_image.TooManyBytes):
        read_image.read(DEFAULT_STORAGE, ImageRef(b"/a.jpg", "1", read_image.MAX_ENCODED_BYTES + 1))


def test_the_project_that_pays_is_told_to_each_request(monkeypatch):
    asked = []
    monkeypatch.setattr(versioned, "described", lambda storage, ref: asked.append(storage) or ref)
    monkeypatch.setattr(versioned, "read", lambda storage, ref, most: asked.append((storage, most)) or (b"x", "crc"))
    assert read_image.read_or_failure(Storage("payer"), ImageRef(b"gs://b/a.jpg")) == EncodedImage(
        ImageRef(b"gs://b/a.jpg", "", 1, "crc"), b"x"
    )
    assert asked == [Storage("payer"), (Storage("payer"), read_image.MAX_ENCODED_BYTES)]


def test_too_little_memory_says_for_what(monkeypatch):
    failure = read_image.failure(ImageRef(b"/caf\xe9.jpg", "1", 7), MemoryError())
    assert failure.message == "too little memory to read /caf\\xe9.jpg: expected room for 7 bytes"


@pytest.mark.parametrize("error", [ValueError("no"), tarfile.ReadError("no"), versioned.local.NotARegularFile("no")])
def test_what_will_not_change_is_not_tried_again(error):
    assert not read_image.failure(ImageRef(b"/a.jpg"), error).retryable


def test_an_object_that_was_packed_is_unpacked(paging):
    """As `gsutil cp -Z` stores it. What was listed are the packed bytes."""
    packed = gzip.compress(b"image" * 100)
    blob = gcs.client().bucket("photos").blob("a.jpg")
    blob.content_encoding = "gzip"
    blob.upload_from_string(packed)
    stored = gcs.described(DEFAULT_STORAGE, "gs://photos/a.jpg")
    read = read_image.read(DEFAULT_STORAGE, versioned.ref_of(stored))
    assert read.encoded == b"image" * 100
    facts = stored.version, len(packed), versioned.crc32c(packed)
    assert read.ref == ImageRef(b"gs://photos/a.jpg", *facts)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (gzip.compress(b"image" * 100)[:-9], "BrokenGzip"),
        (gzip.compress(b"image" * 100)[:-8] + bytes(8), "BrokenGzip"),
        (b"\x1f\x8b\x08" + bytes(20), "BrokenGzip"),
        (gzip.compress(bytes(2**20)), "TooManyBytes"),
    ],
    ids=["truncated", "other checksum", "no gzip", "too large"],
)
def test_what_cannot_be_unpacked_is_a_failure(tmp_path, monkeypatch, content, error):
    monkeypatch.setattr(read_image, "_FREE_BYTES", 1000)
    (tmp_path / "a.jpg").write_bytes(content)
    failure = read_image.read_or_failure(DEFAULT_STORAGE, ref(tmp_path / "a.jpg"))
    assert (failure.stage, failure.error, failure.retryable) == ("read", error, False)


@pytest.mark.parametrize(
    ("error", "retryable"),
    [(OSError("reset"), True), (read_image.TooManyBytes("large"), False), (MemoryError(), True)],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_a_failure_of_the_image(monkeypatch, error, retryable):
    def raises(*_):
        raise error

    monkeypatch.setattr(versioned, "described", raises)
    failure = read_image.read_or_failure(DEFAULT_STORAGE, ImageRef(b"/a.jpg", "1", 7))
    assert (failure.key, failure.stage, failure.error) == (b"/a.jpg", "read", type(error).__name__)
    assert failure.retryable is retryable and failure.message
