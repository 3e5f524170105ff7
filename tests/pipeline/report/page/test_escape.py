"""Texts from outside, as HTML."""

import pytest

from pipeline.report.page import escape
from tests.helpers import run_facts


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        (run_facts.HOSTILE, "&lt;img src=x onerror=document.title=1&gt;.jpg"),
        ("\"'", "&quot;&#x27;"),
        ("</script>&amp;", "&lt;/script&gt;&amp;amp;"),
        ("a\x00b\nc\x1b[0m", r"a\x00b\nc\x1b[0m"),
        ("gpj.\u202eexe\u200b", r"gpj.\u202eexe\u200b"),
        ("caf\udce9", r"caf\xe9"),
        ("\u3164\u2800", r"\u3164\u2800"),
        ("日本 é", "日本 é"),
        (3, "3"),
    ],
    ids=["element", "quotes", "script", "control", "direction", "byte", "blank", "letters", "number"],
)
def test_a_text_stays_text(plain, escaped):
    assert escape.text(plain) == escaped


def test_the_middle_of_a_long_text_is_left_out():
    shown = escape.text("a" * 5000 + "b" * 5000, 21)
    assert shown == "a" * 10 + "…" + "b" * 10


def test_the_name_is_the_last_part_of_a_key():
    assert escape.name(b"gs://bucket/a/caf\xe9.jpg") == r"caf\xe9.jpg"
    assert escape.name(b"/a/b\\n\n.jpg") == r"b\\n\n.jpg"
    assert escape.name(b"plain") == "plain"
    assert escape.name(b"/a/b/") == "b"
    assert escape.key(b"gs://bucket/<a>") == "gs://bucket/&lt;a&gt;"
