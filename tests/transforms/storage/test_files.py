"""transforms.storage.files: whole files or none."""

import logging
import os
import re
import shutil
import socket
import threading

import pytest
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from transforms.storage import files, local


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


LOCATIONS = "expected gs://BUCKET/NAME or a local path"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file:///photos/a.jpg", f"{LOCATIONS}, without file://"),
        ("http://host/a.jpg", LOCATIONS),
        ("ftp://host/a.jpg", LOCATIONS),
        ("GS://bucket/a.jpg", LOCATIONS),
        ("1://a", LOCATIONS),
        ("s3://bucket/a.jpg", f"{LOCATIONS}; s3:// needs the package boto3"),
        ("azfs://account/container/a.jpg", f"{LOCATIONS}; azfs:// needs the package azure"),
    ],
)
def test_a_location_that_cannot_be_reached_is_told_with_those_that_can(path, message, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    def write(path):
        files.write(path, b"")

    for call in (files.match, files.metadata, files.described, files.read, files.create, write):
        with pytest.raises(ValueError, match=f"^{re.escape(f'{path!r}: {message}')}$"):
            call(path)


def test_a_filesystem_of_beam_with_its_client_may_be_tried(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    for path in ("s3://bucket/a.jpg", "gs://bucket/a.jpg", "/a.jpg", "a.jpg"):
        files.check_location(path)


def test_removing_what_is_not_there_is_fine(tmp_path):
    files.remove(str(tmp_path / "nothing"))
    files.remove_file(str(tmp_path / "nothing"))


def test_what_is_removed_is_gone(tmp_path):
    directory = tmp_path / "out [1]"
    files.write(str(directory / "deep" / "file"), b"one")
    files.write(str(directory / "file[1]"), b"one")
    files.remove_file(str(directory / "file[1]"))
    assert [path.name for path in directory.iterdir()] == ["deep"]
    (directory / "link").symlink_to(tmp_path)
    files.remove(str(directory / "link"))
    files.remove(str(directory))
    assert tmp_path.exists() and not directory.exists()


def refuse(*args, **kwargs):
    raise PermissionError(1, "Operation not permitted")


def test_a_refused_deletion_of_a_file_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"one")
    monkeypatch.setattr(os, "remove", refuse)
    with pytest.raises(PermissionError):
        files.remove_file(str(tmp_path / "file"))
    monkeypatch.setattr(FileSystems, "delete", lambda paths: _fail(paths, 403))
    monkeypatch.setattr(FileSystems, "exists", lambda path: True)
    with pytest.raises(OSError, match="gs://b/file cannot be deleted: .*403"):
        files.remove_file("gs://b/file")
    monkeypatch.setattr(FileSystems, "exists", lambda path: False)
    files.remove_file("gs://b/file")


def _fail(paths, status):
    raise BeamIOError("Delete operation failed", dict.fromkeys(paths, status))


def test_a_refused_deletion_of_a_directory_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(shutil, "rmtree", refuse)
    with caplog.at_level(logging.WARNING):
        files.remove(str(tmp_path))
    assert caplog.messages == [f"{tmp_path} could not be deleted: [Errno 1] Operation not permitted"]


def within(seconds, call):
    """Returns the error of a call that must not wait."""
    errors = []

    def run():
        try:
            call()
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits"
    (error,) = errors
    return error


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("pipe", "a named pipe"),
        ("socket", "a socket"),
        ("folder", "a directory"),
        ("to pipe", "a link to a named pipe"),
        ("to zero", "a link to a device"),
        ("to folder", "a link to a directory"),
        ("loop", "links in a loop"),
    ],
)
@pytest.mark.parametrize("call", [files.metadata, files.read, files.open_stored], ids=lambda call: call.__name__)
def test_what_is_no_regular_file_is_not_opened(tmp_path, monkeypatch, name, kind, call):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo("pipe")
    os.mkdir("folder")
    for link, target in {"to pipe": "pipe", "to zero": "/dev/zero", "to folder": "folder", "loop": "loop"}.items():
        os.symlink(target, link)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        error = within(5, lambda: call(name))
    assert isinstance(error, local.NotARegularFile)
    assert f"not a regular file: {kind}: '{name}'" in str(error)


def test_a_link_to_nothing_says_so(tmp_path):
    (tmp_path / "link").symlink_to("nothing")
    for call in (files.metadata, files.read):
        with pytest.raises(FileNotFoundError, match="a link to a file that does not exist: '.*/link'"):
            call(str(tmp_path / "link"))


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    status, opening = local.status, files.os.open

    def swap(name, flags):
        path.unlink()
        os.mkfifo(path)
        return opening(name, flags)

    monkeypatch.setattr(os, "open", swap)
    assert status(str(path))
    error = within(5, lambda: files.read(str(path)))
    assert isinstance(error, local.NotARegularFile)
    assert "a named pipe" in str(error)


def test_hidden_files(tmp_path):
    for name in (".a", "b", ".c/.d", "e/.f"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert files.hidden(str(tmp_path)) == [str(tmp_path / ".a")]
    assert files.hidden(str(tmp_path / "not there")) == []


def test_any_number_of_directories(tmp_path):
    for name in ("a.jpg", "sub/deep/b.jpg", "sub/xa.jpg"):
        files.write(f"{tmp_path}/{name}", b"x")

    def names(pattern, limit=None):
        return sorted(found.path.removeprefix(f"{tmp_path}/") for found in files.match(f"{tmp_path}/{pattern}", limit))

    assert names("**/*.jpg") == ["a.jpg", "sub/deep/b.jpg", "sub/xa.jpg"]
    assert names("**/a.jpg") == ["a.jpg"]
    assert len(names("**/*.jpg", 2)) == 2
