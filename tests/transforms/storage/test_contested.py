"""transforms.storage.contested: of several that write in one state, exactly one wins, and the others know it."""

import concurrent.futures
import contextlib
import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest
from google.cloud import storage

from tests.helpers import descriptors
from tests.helpers.faults import Faults, fault_proxy
from tests.helpers.running import ROOT
from transforms.storage import contested
from transforms.storage.context import DEFAULT_STORAGE
from transforms.storage.stores import gcs

pytestmark = pytest.mark.slow


@pytest.fixture(params=["local", "gs", "s3"])
def path(request, tmp_path):
    """A file that does not exist, on a disk or in a bucket whose server enforces preconditions."""
    if request.param == "local":
        return str(tmp_path / "runs" / "r.unfinished")
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_bucket')}/runs/r.unfinished"
    cloud = request.getfixturevalue("cloud")
    client = storage.Client()
    bucket = client.lookup_bucket("contested") or client.create_bucket("contested")
    for blob in bucket.list_blobs():
        blob.delete()
    url = request.getfixturevalue("enforcing")
    assert url != cloud.environment["STORAGE_EMULATOR_HOST"]
    return "gs://contested/runs/r.unfinished"


@pytest.fixture
def enforcing(cloud, monkeypatch):
    """Points this process at a proxy that enforces preconditions."""
    with fault_proxy(cloud.environment["STORAGE_EMULATOR_HOST"], preconditions=True) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        gcs.client.cache_clear()
        yield proxy.url
    gcs.client.cache_clear()


def test_a_file_is_written_in_the_state_that_was_seen(path):
    assert contested.read(path) is None
    first = contested.write(path, b"first", None)
    assert contested.read(path) == (b"first", first)
    second = contested.write(path, b"second", first)
    assert contested.read(path) == (b"second", second) and second != first
    contested.remove(path, second)
    assert contested.read(path) is None


def test_a_stale_state_changes_nothing(path):
    first = contested.write(path, b"first", None)
    with pytest.raises(contested.Lost, match="r.unfinished was written by another process"):
        contested.write(path, b"another", None)
    second = contested.write(path, b"second", first)
    with pytest.raises(contested.Lost):
        contested.write(path, b"another", first)
    assert contested.read(path) == (b"second", second)
    contested.remove(path, second)
    with pytest.raises(contested.Lost):
        contested.write(path, b"another", second)
    assert contested.read(path) is None


def test_a_file_in_another_state_is_not_removed(path):
    first = contested.write(path, b"first", None)
    second = contested.write(path, b"second", first)
    with contextlib.suppress(contested.Lost):  # which a bucket does not raise
        contested.remove(path, first)
    assert contested.read(path) == (b"second", second)


def attempt(path, start, i, state):
    """Writes once all are ready; returns whether it won."""
    start.wait()
    try:
        contested.write(path, b"%d" % i, state)
    except contested.Lost:
        return False
    return True


@pytest.mark.parametrize("exists", [False, True])
def test_of_many_threads_one_wins(path, exists):
    state = contested.write(path, b"before", None) if exists else None
    start = threading.Barrier(8)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        won = list(threads.map(lambda i: attempt(path, start, i, state), range(8)))
    assert won.count(True) == 1
    present = contested.read(path)
    assert present and present.content == b"%d" % won.index(True)


def test_content_and_state_are_of_one_file(tmp_path, monkeypatch):
    """Another process replaces the file just after it was opened."""
    path = tmp_path / "claim"
    contested.write(str(path), b"first", None)
    fstat = os.fstat

    def replace(descriptor):
        if path.read_bytes() == b"first":
            (tmp_path / "other").write_bytes(b"second")
            (tmp_path / "other").replace(path)
        return fstat(descriptor)

    monkeypatch.setattr(contested.os, "fstat", replace)
    content, state = contested.read(str(path))
    monkeypatch.undo()
    assert content == b"first"
    with pytest.raises(contested.Lost):
        contested.write(str(path), b"third", state)


# Counts in a file, from a moment on, and prints how often it has.
COUNT = """
import sys, time
from transforms.storage import contested
path, begin = sys.argv[1], float(sys.argv[2])
counted = 0
while time.time() < begin:
    pass
for _ in range(50):
    present = contested.read(path)
    try:
        contested.write(path, b"%d" % (int(present.content) + 1 if present else 1), present and present.state)
        counted += 1
    except contested.Lost:
        pass
print(counted)
"""


def test_no_write_of_two_processes_is_lost(tmp_path):
    path = tmp_path / "counter"
    argv = [sys.executable, "-c", COUNT, str(path), str(time.time() + 8)]  # importing Beam takes a while
    both = [subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counted = [int(process.communicate(timeout=60)[0]) for process in both]
    assert int(path.read_text()) == sum(counted) >= 50
    assert [each.name for each in tmp_path.iterdir()] == ["counter"]


def test_a_write_whose_reply_is_lost_has_won(cloud, monkeypatch):
    """The client asks again, and meets what its first request has made."""
    client = storage.Client()
    client.create_bucket("replies")
    path = "gs://replies/runs/r.unfinished"
    rates = Faults(lost_reply=1.0)
    with fault_proxy(
        cloud.environment["STORAGE_EMULATOR_HOST"],
        rates=rates,
        in_a_row=1,
        paths="^POST .*/upload/",
        preconditions=True,
    ) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        gcs.client.cache_clear()
        state = contested.write(path, b"mine", None)
        assert proxy.faults == {"lost_reply": 1, "unmet": 1}
        assert contested.read(path) == (b"mine", state)
        assert contested.write(path, b"mine again", state) != state
    gcs.client.cache_clear()


@pytest.mark.parametrize(("number", "is_written"), [(errno.ENOTSUP, True), (errno.ENOLCK, True), (errno.EIO, False)])
def test_a_disk_without_locks_and_one_that_fails(tmp_path, monkeypatch, number, is_written):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    path = str(tmp_path / "f")
    state = contested.write(path, b"1", None)
    monkeypatch.setattr(fcntl, "flock", flock)
    if is_written:
        assert contested.write(path, b"2", state) != state
    else:
        with pytest.raises(OSError, match="Input/output error"):
            contested.write(path, b"2", state)
    assert Path(path).read_bytes() == (b"2" if is_written else b"1")


def test_content_time_and_file_are_the_state(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"one")
    os.utime(path, ns=(0, 10**18))
    state = contested.read(str(path)).state
    path.write_bytes(b"two")  # in the same file
    os.utime(path, ns=(0, 10**18))
    assert contested.read(str(path)).state != state
    path.write_bytes(b"one")
    os.utime(path, ns=(0, 10**18))
    assert contested.read(str(path)).state == state
    os.utime(path, ns=(0, 10**18 + 1))
    assert contested.read(str(path)).state != state
    (tmp_path / "other").write_bytes(b"one")
    os.utime(tmp_path / "other", ns=(0, 10**18))
    (tmp_path / "other").rename(path)
    assert contested.read(str(path)).state != state


def test_what_another_process_writes_at_once_is_no_write_of_ones_own(tmp_path, monkeypatch):
    """As on a filesystem without locks."""
    path, write = str(tmp_path / "f"), contested.files.write
    monkeypatch.setattr(contested.files, "write", lambda path, content: write(path, b"of another"))
    with pytest.raises(contested.Lost, match="was removed or replaced as it was written"):
        contested.write(path, b"mine", None)
    monkeypatch.setattr(contested.files, "write", lambda path, content: os.unlink(path))
    with pytest.raises(contested.Lost, match="was removed or replaced as it was written"):
        contested.write(path, b"mine", contested.read(path).state)


def test_a_lock_leaves_no_descriptor_open(tmp_path):
    path = str(tmp_path / "f")
    state = contested.write(path, b"0", None)
    for number in range(3):
        state = contested.write(path, b"%d" % number, state)
        with pytest.raises(contested.Lost):
            contested.write(path, b"x", "another state")
    contested.remove(path, state)
    assert descriptors.of(tmp_path) == 0


@pytest.mark.parametrize("has_links", [True, False])
def test_a_new_file_is_created_whole_and_once(tmp_path, monkeypatch, has_links):
    path = tmp_path / "new" / "file"
    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links")))
    contested.create(str(path), b"first")
    with pytest.raises(contested.Lost):
        contested.create(str(path), b"second")
    assert path.read_bytes() == b"first" and list(path.parent.iterdir()) == [path]


def test_nobody_who_holds_the_lock_keeps_a_new_file_from_being_created(tmp_path, monkeypatch):
    monkeypatch.setattr(contested, "_LOCK_SECONDS", 0.0)
    with contested._locked(str(tmp_path / "another")):
        contested.create(str(tmp_path / "file"), b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL])
def test_other_ways_to_say_that_there_are_no_locks(tmp_path, monkeypatch, number):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert contested.write(str(tmp_path / "f"), b"1", None)


def test_without_a_lock_what_another_process_may_be_writing_stays(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    left = tmp_path / f".r.unfinished.{'0' * 32}"
    left.write_bytes(b"")
    with monkeypatch.context() as without_locks:
        without_locks.setattr(fcntl, "flock", flock)
        contested.remove_unfinished(str(tmp_path / "s.unfinished"))
        assert left.exists()
    stay = {tmp_path / name for name in ("r.unfinished", "r.json", f".r.html.{'0' * 32}", ".r.unfinished.mine")}
    for path in stay:
        path.touch()
    contested.remove_unfinished(str(tmp_path / "s.unfinished"))
    assert set(tmp_path.iterdir()) == stay


def test_an_object_that_is_replaced_between_two_requests_is_not_taken_for_gone(path, monkeypatch):
    if not path.startswith("gs://"):
        pytest.skip("a local file is read by one open descriptor")
    state = contested.write(path, b"first", None)
    read = gcs.read

    def after_a_beat(storage, name, generation):
        if generation == state:
            contested.write(path, b"second", state)
            gcs.remove(DEFAULT_STORAGE, path, state)  # the emulator keeps no generation but the last
            raise FileNotFoundError(name)
        return read(storage, name, generation)

    monkeypatch.setattr(gcs, "read", after_a_beat)
    assert contested.read(path).content == b"second"


def test_a_lock_that_a_stopped_process_holds_is_not_waited_for_without_end(tmp_path, monkeypatch):
    slept = []
    clock = types.SimpleNamespace(monotonic=lambda: len(slept), sleep=slept.append)  # each pause takes a second
    monkeypatch.setattr(contested, "time", clock)
    with contested._locked(str(tmp_path / "claim")), pytest.raises(TimeoutError, match="held its lock for .* stopped"):
        contested.write(str(tmp_path / "claim"), b"", None)
    assert 20 <= len(slept) <= 60
    contested.write(str(tmp_path / "claim"), b"", None)
