"""transforms.storage.files: whole files or none."""

import pytest

from transforms.storage import files


def test_write_replaces_a_file_and_leaves_nothing_else(tmp_path):
    path = str(tmp_path / "deep" / "file")
    files.write(path, b"one")
    files.write(path, b"two")
    assert files.read(path) == b"two"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(part, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "publish", fail)
    with pytest.raises(OSError, match="No space left"):
        files.write(str(path), b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a", b"old")]


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/in/*", "/in/a.jpg", True),
        ("/in/*", "/in/out/part", False),
        ("/in/**", "/in/out/part", True),
        ("/in/a.jpg", "/in/a.jpg", True),
        ("gs://b/**.jpg", "gs://b/x/y.jpg", True),
    ],
)
def test_takes_in(pattern, path, expected):
    assert files.takes_in(pattern, path) is expected


def test_removing_what_is_not_there_is_fine(tmp_path):
    files.remove(str(tmp_path / "nothing"))
    files.remove_file(str(tmp_path / "nothing"))
