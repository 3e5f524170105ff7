"""transforms.elements.keys: bytes that are not UTF-8 survive each text that stands for them."""

import numpy as np
import pytest

from transforms.elements import keys


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
        (rb"/literal \xe9.jpg", r"/literal \x5cxe9.jpg"),
        (rb"/literal \x5cxe9.jpg", r"/literal \x5cx5cxe9.jpg"),
        (b"/literal \\xe9, byte \xe9", r"/literal \x5cxe9, byte \xe9"),
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


def test_pieces_of_escapes_come_back_from_text_and_no_two_keys_share_one():
    pieces = [b"\\", b"x", b"5c", b"e9", b"c3", b"\xe9", b"\\xe9", b"\\x5c", b"a", "é".encode()]
    rng = np.random.default_rng(0)
    many = {b"".join(pieces[i] for i in rng.integers(0, len(pieces), rng.integers(0, 7))) for _ in range(3000)}
    assert {keys.of_text(keys.text(key)) for key in many} == many
    assert all(keys.of_text(keys.text(key)) == key for key in many)


@pytest.mark.parametrize("column", [r"gs://b/\x5c.jpg", r"/spelled \xc3\xa9.jpg", r"C:\photos\x5cold.jpg"])
def test_texts_that_earlier_versions_wrote_are_read(column):
    assert keys.of_text(column) == column.encode()


@pytest.mark.parametrize(
    ("key", "is_in_shard"),
    [
        (b"gs://b/a.tar#1.jpg", True),
        (b"/a.TAR#deep/1.jpg", True),
        (b"/a.tgz#1.jpg", True),
        (b"/a.tar.gz#1.jpg", True),
        (b"/a.tfrecord#1", True),
        (b"/a.tfrecords#12", True),
        (b"/a.tfrecord-00000-of-00002#1", True),
        (b"/a.tar#\n", True),
        (b"/a.tar", False),
        (b"/a.tar#", False),
        (b"/a.tar/1#2.jpg", False),
        (b"/a#1.tar", False),
        (b"/atar#1", False),
        (b"/a.zip#1.jpg", False),
    ],
)
def test_which_keys_are_of_images_in_shards(key, is_in_shard):
    assert keys.is_in_shard(key) is is_in_shard


def test_the_order_in_which_keys_are_sampled_is_the_same_in_each_version():
    assert keys.hashed(b"gs://b/a.jpg").hex() == "a34f132bf569bc2f"
