import pytest

from pipeline.export import target
from pipeline.export.target import Model


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (b"gs://bucket/a.jpg", "gs://bucket/a.jpg"),
        (b"caf\xe9", "caf\\xe9"),
        ("é".encode(), "é"),
        (b"two\nlines\x00", "two\\x0alines\\x00"),
    ],
    ids=["plain", "not UTF-8", "UTF-8", "control characters"],
)
def test_a_key_is_one_line_of_text(key, text):
    assert target.row_key(key) == text


def test_content_changes_with_the_bytes_and_with_the_version():
    assert len({target.content("a", "1"), target.content("b", "1"), target.content("a", "2")}) == 3


def test_the_error_of_another_model_names_both():
    message = str(target.other_model("the table", "e" * 64, Model("d" * 64, 4)))
    assert "e" * 64 in message and "d" * 64 in message and "\n" not in message
