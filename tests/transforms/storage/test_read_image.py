"""transforms.storage.read_image: one file as an image as stored, or the reason why not."""

import os

import pytest

from transforms.records import EncodedImage, ImageRef
from transforms.storage import files, read_image, versioned


def ref(path):
    metadata = files.metadata(str(path))
    return ImageRef(os.fsencode(path), files.version(metadata), metadata.size_in_bytes)


def test_an_unlisted_version_is_looked_up(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"one")
    known = ref(tmp_path / "a.jpg")
    expected = EncodedImage(ImageRef(known.key, known.version, len(b"one"), versioned.crc32c(b"one")), b"one")
    assert read_image.read(ImageRef(known.key, "", -1)) == expected


def test_too_many_bytes_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(read_image, "MAX_ENCODED_BYTES", 10)
    (tmp_path / "a.jpg").write_bytes(bytes(11))
    with pytest.raises(read_image.TooManyBytes, match="11 bytes: expected an image of at most 10"):
        read_image.read(ref(tmp_path / "a.jpg"))


@pytest.mark.parametrize(
    ("error", "retryable"),
    [(OSError("reset"), True), (read_image.TooManyBytes("large"), False), (MemoryError(), True)],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_a_failure_of_the_image(monkeypatch, error, retryable):
    def raises(*_):
        raise error

    monkeypatch.setattr(versioned, "described", raises)
    failure = read_image.read_or_failure(ImageRef(b"/a.jpg", "1", 7))
    assert (failure.key, failure.stage, failure.error) == (b"/a.jpg", "read", type(error).__name__)
    assert failure.retryable is retryable and failure.message
