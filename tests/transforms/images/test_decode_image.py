"""transforms.images.decode_image: what becomes of one image. test_decoding.py has the pixels."""

import hashlib

import numpy as np

from tests.helpers import data_generation as data
from transforms.elements.records import EncodedImage, ImageInfo, ImageRef
from transforms.images import decoding
from transforms.images.decode_image import decode_or_failure
from transforms.images.decode_settings import DecodeSettings

SETTINGS = DecodeSettings((8, 9))


def test_an_image_becomes_its_facts_and_pixels():
    ref, encoded, out = ImageRef(b"/a.jpg", "1"), data.jpeg(1, 30, 40), np.zeros((8, 9, 3), np.uint8)
    info = decode_or_failure(EncodedImage(ref, encoded), SETTINGS, out)
    assert info == ImageInfo(ref, hashlib.sha256(encoded).hexdigest(), "jpeg", 30, 40)
    np.testing.assert_array_equal(out, decoding.decode(encoded, (8, 9)).pixels)


def test_only_a_want_of_memory_may_pass(monkeypatch):
    for error, may_pass in ((decoding.OutOfMemory, True), (decoding.CorruptImage, False)):

        def fail(*args, error=error):
            raise error("no")

        monkeypatch.setattr(decoding, "decode_into", fail)
        failure = decode_or_failure(EncodedImage(ImageRef(b"/a.jpg"), b""), SETTINGS, np.zeros((8, 9, 3), np.uint8))
        assert (failure.key, failure.stage, failure.error, failure.retryable) == (
            b"/a.jpg",
            "decode",
            error.__name__,
            may_pass,
        )
