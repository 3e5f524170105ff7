"""The texts of keys: one line without anything unseen, and which key a person means who repeats one."""

import json

import pytest

from pipeline.commands.search import names
from transforms.elements import keys

HOSTILE = [
    b"/photos/caf\xe9.jpg",
    b"/photos/caf\\xe9.jpg",
    b"/photos/a\n0.9999  b.jpg",
    b"/photos/\x1b[31mred\x1b]0;title\x07.jpg",
    "/photos/\u202egpj.exe.jpg".encode(),
    "/photos/9.41\u202fAM \xa0\xad.jpg".encode(),
    "/photos/\u2028\U000e0001\xe9.jpg".encode(),
    "/photos/\u3164\u2800.jpg".encode(),
    b"/photos/a\\n.jpg",
    b"/photos/a\n.jpg",
    b"/photos/\x85.jpg",
    "/photos/\x85.jpg".encode(),
]


@pytest.mark.parametrize("key", HOSTILE, ids=ascii)
def test_a_name_is_one_line_that_hides_nothing(key):
    assert keys.name(key).isprintable() and keys.name(key).startswith("/photos/")


def test_the_names_of_different_keys_differ():
    assert len(set(map(keys.name, HOSTILE))) == len(HOSTILE)


def test_the_last_part_of_a_key_is_escaped():
    assert names.last_part(b"gs://bucket/photos/caf\xe9\n.jpg") == r"caf\xe9\n.jpg"
    assert names.last_part(b"gs://bucket/photos/") == "photos"


@pytest.mark.parametrize("key", HOSTILE, ids=ascii)
def test_a_key_is_meant_by_its_name_its_text_and_its_json(key):
    for text in (keys.name(key), keys.text(key), json.dumps(keys.uri(key))[1:-1]):
        assert names.means(text, key)
    assert not names.means(keys.name(key), key + b"2") and not names.means("", key)
