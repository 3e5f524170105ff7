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


@pytest.mark.parametrize("call", [local.status, local.open_regular], ids=lambda call: call.__name__)
def test_a_directory_is_no_file(tmp_path, call):
    with pytest.raises(local.NotARegularFile, match="a directory"):
        call(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        call(str(tmp_path / "gone"))
