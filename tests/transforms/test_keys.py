"""transforms.keys: bytes that are not UTF-8 survive each text that stands for them."""

import numpy as np
import pytest

from transforms import keys


def test_keys_survive_names_that_are_not_utf_8():
    for key in (b"/photos/caf\xe9.jpg", "gs://b/ü.jpg".encode(), bytes(range(1, 256))):
        assert keys.of_uri(keys.uri(key)) == key


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"gs://b/a.jpg", "gs://b/a.jpg"),
        ("gs://b/ü 図.jpg".encode(), "gs://b/ü 図.jpg"),
        (b"/caf\xe9.jpg", "/caf\\xe9.jpg"),
        (b"\xff\xfe\x80", "\\xff\\xfe\\x80"),
        ("é".encode() + b"\xe9", "é\\xe9"),
        (b"C:\\photos\\x41.jpg", "C:\\photos\\x41.jpg"),
        (b"/spelled \\xc3\\xa9.jpg", "/spelled \\xc3\\xa9.jpg"),
        (b"/new\nline\t\x00", "/new\nline\t\x00"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),  # half of a surrogate pair, as some Java writes it
        (b"", ""),
    ],
)
def test_keys_as_text_and_back(key, expected):
    assert keys.text(key) == expected
    assert keys.of_text(expected) == key


def test_any_bytes_come_back_from_text():
    rng = np.random.default_rng(0)
    for _ in range(300):
        key = rng.integers(0, 256, 12, np.uint8).tobytes()
        assert keys.of_text(keys.text(key)) == key
