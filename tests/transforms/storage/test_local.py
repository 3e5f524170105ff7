"""transforms.storage.local: regular files, and nothing else. test_files.py has pipes, devices and links."""

import os

import pytest

from tests.helpers import descriptors
from tests.helpers.unprivileged import open_directory, unprivileged
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


def test_what_takes_the_place_of_a_file_after_it_was_looked_at_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    status = local.status

    def and_then_a_pipe(path):
        found = status(path)
        os.unlink(path)
        os.mkfifo(path)
        return found

    monkeypatch.setattr(local, "status", and_then_a_pipe)
    with pytest.raises(local.NotARegularFile, match="a named pipe") as error:  # and no writer is waited for
        local.open_regular(str(path))
    assert descriptors.of(path) == 0 and error.tb  # which would keep the file alive


def test_a_link_says_what_it_leads_to(tmp_path):
    for name, target, error, message in (
        ("dangling", "none", FileNotFoundError, "a link to a file that does not exist"),
        ("loop", "loop", local.NotARegularFile, "links in a loop"),
        ("folder", ".", local.NotARegularFile, "a link to a directory"),
        ("zero", "/dev/zero", local.NotARegularFile, "a link to a device"),
    ):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(error, match=message):
            local.status(str(tmp_path / name))


def test_a_device_is_not_opened(monkeypatch):
    monkeypatch.setattr(os, "open", lambda *args: pytest.fail("it was opened"))
    with pytest.raises(local.NotARegularFile, match="a device: '/dev/null'"):
        local.open_regular("/dev/null")


def test_the_ends_of_a_file_are_all_that_is_read(tmp_path):
    with open(tmp_path / "a.bmp", "wb") as file:
        file.truncate(2**40)  # sparse
        file.write(b"begin")
        file.seek(-3, os.SEEK_END)
        file.write(b"end")
    assert local.ends(str(tmp_path / "a.bmp"), 5) == b"begin\0\0end"


def test_what_hides_whether_a_file_is_there():
    with open_directory() as place:
        for name in ("closed/in", "open/sub"):
            (place / name).mkdir(parents=True)
        (place / "open" / "a.jpg").touch()
        (place / "notes.txt").symlink_to("/mnt/gone")
        (place / "open" / "loop").symlink_to("loop")
        (place / "good").symlink_to("open")
        (place / "closed").chmod(0)
        hidden = {
            "notes.txt": "notes.txt",
            "notes.txt/a.jpg": "notes.txt",
            "notes.txt/deep/a.jpg": "notes.txt",
            "open/loop": "open/loop",
            "open/loop/a.jpg": "open/loop/a.jpg",
            "closed/in": "closed/in",
            "closed/in/a.jpg": "closed/in/a.jpg",
            "closed": None,
            "gone.jpg": None,
            "gone/deep/a.jpg": None,
            "open/gone.jpg": None,
            "good/gone.jpg": None,
            "open/a.jpg/b.jpg": None,
            "open/a.jpg": "open/a.jpg",
            "good/a.jpg": None,  # is listed by its path without links
            "open": None,
        }
        with unprivileged():
            for name, expected in hidden.items():
                assert local.unseen(f"{place}/{name}") == (expected and f"{place}/{expected}"), name
    assert local.unseen("") is None and local.unseen("gone.jpg") is None and local.unseen("/gone/a.jpg") is None
