import numpy as np
import pytest

from pipeline.commands.export import target
from pipeline.commands.export.target import Model


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (b"gs://bucket/a.jpg", "gs://bucket/a.jpg"),
        (b"caf\xe9", "caf\\xe9"),
        ("é".encode(), "é"),
        (b"two\nlines\x00", "two\\x0alines\\x00"),
        (rb"two\x0alines", r"two\x5cx0alines"),
        (rb"C:\x64\x0A\new", r"C:\x64\x0A\new"),
        (rb"/literal \xe9", r"/literal \x5cxe9"),
    ],
    ids=["plain", "not UTF-8", "UTF-8", "control characters", "their escape", "no escape", "escape of a byte"],
)
def test_a_key_is_one_line_of_text_and_comes_back(key, text):
    assert target.row_key(key) == text
    assert target.key_of_row(text) == key


def test_no_two_keys_share_a_row():
    pieces = [b"\\", b"x", b"5c", b"0a", b"e9", b"\n", b"\x7f", b"\xe9", b"\\x0a", b"\\x5c", b"\\xe9", b"a"]
    rng = np.random.default_rng(0)
    many = {b"".join(pieces[i] for i in rng.integers(0, len(pieces), rng.integers(0, 7))) for _ in range(5000)}
    rows = {key: target.row_key(key) for key in many}
    assert len(set(rows.values())) == len(many)
    assert {target.key_of_row(row): row for row in rows.values()} == rows
    assert all(row.isprintable() for row in rows.values())


def test_content_changes_with_the_bytes_and_with_the_version():
    assert len({target.content("a", "1"), target.content("b", "1"), target.content("a", "2")}) == 3


def test_the_error_of_another_model_names_both():
    message = str(target.other_model("the table", "e" * 64, Model("d" * 64, 4)))
    assert "e" * 64 in message and "d" * 64 in message and "\n" not in message
