"""transforms.storage.local: regular files, and nothing else. test_files.py has pipes, devices and links."""

import os

import pytest

from transforms.storage import local


def test_a_regular_file(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    os.utime(path, (1.5, 1.5))
    status = local.status(str(path))
    assert local.version(status.st_size, status.st_mtime) == "3-1.500000"
    with local.open_regular(str(path)) as file:
        assert file.read() == b"one"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b""),
        (b"1", b"1"),
        (b"1234", b"1234"),
        (b"123456", b"123456"),
        (b"12345678", b"12345678"),
        (b"1234+5678", b"12345678"),
    ],
    ids=len,
)
def test_the_ends_of_a_file(tmp_path, content, expected):
    path = tmp_path / "a.bmp"
    path.write_bytes(content)
    assert local.ends(str(path), 4) == expected


def _ends(path):
    return local.ends(path, 4)


@pytest.mark.parametrize("call", [local.status, local.open_regular, _ends], ids=lambda call: call.__name__)
def test_a_directory_is_no_file(tmp_path, call):
    with pytest.raises(local.NotARegularFile, match="a directory"):
        call(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        call(str(tmp_path / "gone"))
