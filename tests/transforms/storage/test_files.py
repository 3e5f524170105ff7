"""transforms.storage.files: whole files or none."""

import logging
import os
import re
import shutil
import socket
import threading

import pytest
from google.cloud import storage

from transforms.storage import contested, files, local
from transforms.storage.errors import Forbidden
from transforms.storage.stores import gcs


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


@pytest.fixture(params=["local", *(pytest.param(scheme, marks=pytest.mark.slow) for scheme in ("gs", "s3"))])
def path(request, tmp_path):
    """The path of a file that is not there, on a disk or in a bucket."""
    if request.param == "local":
        return str(tmp_path / "runs" / "r.json")
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_bucket')}/runs/r.json"
    request.getfixturevalue("cloud")
    client = storage.Client()
    bucket = client.lookup_bucket("whole") or client.create_bucket("whole")
    for blob in bucket.list_blobs():
        blob.delete()
    return "gs://whole/runs/r.json"


def beside(path):
    """Returns the files beside one, and below."""
    return [each.path for each in files.match(f"{path.rpartition('/')[0]}/**") if each.path != path]


def test_what_is_written_is_complete_when_the_check_is_called(path):
    files.write(path, b"old")
    called = []

    def check():
        (ready,) = beside(path)
        called.append((files.read(ready), files.read(path)))

    files.write(path, b"new", check)
    assert called == [(b"new", b"old")] and files.read(path) == b"new" and beside(path) == []


def test_a_check_that_fails_leaves_the_file_as_it_is(path):
    files.write(path, b"old")

    def check():
        raise contested.Lost("taken over")

    with pytest.raises(contested.Lost, match="taken over"):
        files.write(path, b"new", check)
    assert files.read(path) == b"old" and beside(path) == []


@pytest.mark.parametrize("fails", [True, False], ids=["the check fails then", "the check passes still"])
def test_what_was_removed_after_the_check_never_gets_the_name(path, fails):
    """As where the process is stopped just after its check, and another takes its place meanwhile."""
    checks = []

    def check():
        checks.append(len(beside(path)))
        if len(checks) == 1:
            files.remove_pending(path)
            files.write(path, b"of another")
        elif fails:
            raise contested.Lost("taken over")

    with pytest.raises(contested.Lost if fails else FileNotFoundError):
        files.write(path, b"new", check)
    assert checks == [1, 0] and files.read(path) == b"of another" and beside(path) == []


def test_only_what_is_pending_for_a_file_is_removed(path):
    directory = path.rpartition("/")[0]
    pending = f"{directory}/.r.json.{'0' * 32}"
    others = [f"{directory}/{name}" for name in (f".r.html.{'0' * 32}", ".r.json.0", "r.json", f".rr.json.{'0' * 32}")]
    for each in (pending, *others):
        files.write(each, b"")
    files.remove_pending(path)
    assert sorted(each.path for each in files.match(f"{directory}/**")) == sorted(others)


def test_a_file_is_removed_in_the_state_that_was_seen(path):
    assert files.state(path) is None
    files.write(path, b"old")
    state = files.state(path)
    assert state == files.state(path)
    files.remove_in_state(path, state)
    assert files.state(path) is None
    files.remove_in_state(path, state)  # which is gone already


def test_a_file_that_took_the_place_of_one_stays(tmp_path):
    path = str(
        tmp_path / "r.json"
    )  # the storage emulator ignores preconditions; test_gcs.py has a server that does not
    files.write(path, b"old")
    state = files.state(path)
    files.write(path, b"new")
    files.remove_in_state(path, state)
    assert files.read(path) == b"new" and beside(path) == []


def test_a_file_that_took_the_place_of_one_stays_without_hard_links(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(1, "Operation not permitted")  # as vfat and some network filesystems say

    monkeypatch.setattr(os, "link", link)  # which Path.hardlink_to calls
    test_a_file_that_took_the_place_of_one_stays(tmp_path)


def test_a_third_file_that_takes_the_place_meanwhile_stays(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    path.write_bytes(b"second")
    link = os.link

    def after_the_third(source, target):
        path.write_bytes(b"third")
        link(source, target)

    monkeypatch.setattr(os, "link", after_the_third)
    files.remove_in_state(str(path), "of the first")
    assert path.read_bytes() == b"third" and beside(str(path)) == []


def test_all_files_of_a_directory_go_and_one_that_comes_meanwhile_stays(tmp_path):
    parts = tmp_path / ".parts"
    parts.mkdir()
    for name in "abc":
        (parts / name).write_bytes(b"")
    files.remove_all([str(parts / name) for name in ("a", "b", "gone")], str(parts))
    assert [each.name for each in parts.iterdir()] == ["c"]
    files.remove_all([str(parts / "c")], str(parts))
    assert not parts.exists()
    files.remove_all([], str(parts))


LOCATIONS = "expected gs://BUCKET/NAME, s3://BUCKET/NAME, az://CONTAINER/NAME or a local path"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file:///photos/a.jpg", f"{LOCATIONS}, without file://"),
        ("http://host/a.jpg", f"{LOCATIONS}; URLs of images belong into a list: --input_format list"),
        ("ftp://host/a.jpg", LOCATIONS),
        ("GS://bucket/a.jpg", LOCATIONS),
        ("1://a", LOCATIONS),
        ("hdfs://host/a.jpg", f"{LOCATIONS}; hdfs:// needs the package hdfs"),
        ("azfs://account/container/a.jpg", f"{LOCATIONS}; azfs:// needs the package azure"),
        ("s3://bucket/a.jpg", "s3:// needs pip install 'beam-image-embeddings[s3]'"),
        ("az://container/a.jpg", "az:// needs pip install 'beam-image-embeddings[azure]'"),
    ],
)
def test_a_location_that_cannot_be_reached_is_told_with_those_that_can(path, message, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    def write(path):
        files.write(path, b"")

    for call in (files.match, files.described, files.read, files.create, write):
        with pytest.raises(ValueError, match=f"^{re.escape(f'{path!r}: {message}')}$"):
            call(path)


def test_a_filesystem_of_beam_with_its_client_may_be_tried(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    for path in ("hdfs://host/a.jpg", "gs://bucket/a.jpg", "/a.jpg", "a.jpg"):
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


@pytest.mark.parametrize("is_there", [True, False])
def test_a_refused_deletion_of_an_object_is_an_error_if_it_is_there(monkeypatch, is_there):
    """Who may not list is refused for an object that is not there too."""

    def forbid(storage, path):
        raise Forbidden(f"{path}: 403")

    def describe(storage, path):
        if not is_there:
            raise FileNotFoundError(path)

    monkeypatch.setattr(gcs, "remove", forbid)
    monkeypatch.setattr(gcs, "described", describe)
    if is_there:
        with pytest.raises(Forbidden, match="gs://b/file cannot be deleted: .*403"):
            files.remove_file("gs://b/file")
    else:
        files.remove_file("gs://b/file")


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
@pytest.mark.parametrize("call", [files.described, files.read, files.open_stored], ids=lambda call: call.__name__)
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
    for call in (files.described, files.read):
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


def test_hidden_files_of_a_directory_that_is_not_there(tmp_path):
    assert files.hidden(str(tmp_path / "nothing")) == []


def test_a_second_name_replaces_a_file_and_the_first_stays(tmp_path):
    part, path = tmp_path / "part", tmp_path / "path"
    part.write_bytes(b"new")
    path.write_bytes(b"old")
    for _ in range(2):  # as a bundle that runs twice does
        files.name(str(part), str(path))
        assert path.read_bytes() == b"new" and sorted(each.name for each in tmp_path.iterdir()) == ["part", "path"]
    part.unlink()
    files.name(str(part), str(path))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        files.name(str(part), str(path))


def test_a_second_name_without_hard_links_is_a_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "part").write_bytes(b"new")
    files.name(str(tmp_path / "part"), str(tmp_path / "path"))
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"part": b"new", "path": b"new"}
    (tmp_path / "part").unlink()
    files.name(str(tmp_path / "part"), str(tmp_path / "path"))


def test_publishing_again_changes_nothing(tmp_path):
    part, path = tmp_path / "part", tmp_path / "path"
    part.write_bytes(b"new")
    for _ in range(2):
        files.publish(str(part), str(path))
        assert path.read_bytes() == b"new" and not part.exists()
    with pytest.raises(FileNotFoundError):
        files.publish(str(part), str(tmp_path / "another"))


def test_what_is_published_into_no_directory_is_an_error(tmp_path, monkeypatch):
    """The file that was there before is none that this one has become."""
    for call in (files.publish, files.name):
        (tmp_path / "part").write_bytes(b"new")
        with monkeypatch.context() as patch, pytest.raises(FileNotFoundError):
            patch.setattr(os, "replace", _gone)
            patch.setattr(os, "link", _gone)
            call(str(tmp_path / "part"), str(tmp_path / "part"))


def _gone(*args):
    raise FileNotFoundError(2, "No such file or directory")


def test_a_file_is_as_it_was_written_whatever_its_name(tmp_path):
    files.write(str(tmp_path / "a.gz"), b"plain")
    assert (tmp_path / "a.gz").read_bytes() == files.read(str(tmp_path / "a.gz")) == b"plain"


def test_so_many_matches_are_enough(tmp_path):
    for name in ("0a.jpg", "a.jpg", "b/a.jpg"):  # to Beam the first is one of `**a.jpg`
        files.write(str(tmp_path / name), b"")
    assert [each.path for each in files.match(f"{tmp_path}/**/a.jpg", 1)] == [f"{tmp_path}/a.jpg"]
    assert len(files.match(f"{tmp_path}/***/a.jpg")) == 2 and len(files.match(f"{tmp_path}/*.jpg", 1)) == 1


def test_names_of_unfinished_files():
    unfinished = f"r.json.{'0' * 32}"
    assert files.is_unfinished(f".{unfinished}", ".json") and not files.is_unfinished(unfinished, ".json")
    assert not files.is_unfinished(f".r-json.{'0' * 32}", ".json")


def test_in_a_bucket_a_directory_is_a_prefix_with_a_slash(paging):
    for name in ("run", "run/a", "run/deep/b", "run2", "runs/c"):
        files.write(f"gs://photos/{name}", b"x")

    def left():
        return [found.path for found in files.match("gs://photos/**")]

    files.remove("gs://photos/run")
    assert left() == ["gs://photos/run", "gs://photos/run2", "gs://photos/runs/c"]
    files.remove_file("gs://photos/run")
    assert left() == ["gs://photos/run2", "gs://photos/runs/c"]
    files.remove("gs://photos/nothing")
    files.remove_file("gs://photos/nothing")


def test_an_object_whose_name_has_wildcards_is_itself(paging):
    """A path that is read or removed is no pattern."""
    for name in ("out [1]/a*.txt", "out 1/ab.txt"):
        files.write(f"gs://photos/{name}", b"x")
    assert files.read("gs://photos/out [1]/a*.txt") == b"x"
    files.remove("gs://photos/out [1]")
    assert [found.path for found in files.match("gs://photos/**")] == ["gs://photos/out 1/ab.txt"]


def test_a_refused_deletion_of_some_files_is_said(tmp_path, monkeypatch, caplog):
    (tmp_path / "a").write_bytes(b"")
    monkeypatch.setattr(os, "remove", refuse)
    files.remove_all([str(tmp_path / "a")], str(tmp_path))
    assert caplog.messages == [f"{tmp_path} could not be deleted: [Errno 1] Operation not permitted"]


def test_another_file_of_the_same_time_is_in_another_state(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, ns=(0, 10**18))
    state = files.state(str(tmp_path / "a"))
    (tmp_path / "b").replace(tmp_path / "a")
    assert files.state(str(tmp_path / "a")) != state


def test_any_number_of_directories(tmp_path):
    for name in ("a.jpg", "sub/deep/b.jpg", "sub/xa.jpg"):
        files.write(f"{tmp_path}/{name}", b"x")

    def names(pattern, limit=None):
        return sorted(found.path.removeprefix(f"{tmp_path}/") for found in files.match(f"{tmp_path}/{pattern}", limit))

    assert names("**/*.jpg") == ["a.jpg", "sub/deep/b.jpg", "sub/xa.jpg"]
    assert names("**/a.jpg") == ["a.jpg"]
    assert len(names("**/*.jpg", 2)) == 2
