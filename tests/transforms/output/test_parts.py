"""output.parts: records outlive the process that writes them, and errors of the thread that stores them come up."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest

from tests.helpers import descriptors
from tests.helpers.running import ROOT
from transforms.output import parts
from transforms.output.parts import Framed, Label, PartWriter
from transforms.storage import contested, files

LABEL = Label("20261121T010203.456Z", "embedded")


def lines(records):
    return [f"{record}\n".encode() for record in records]


def writer(directory, *, encode=lines, label=LABEL, max_bytes=2**20, max_seconds=60.0):
    return PartWriter(str(directory), label, Framed(".txt", encode), max_bytes, max_seconds)


def content(directory):
    """Returns the records of each part."""
    return [path.read_text().split() for path in sorted(Path(directory).glob("*"))]


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("outcome", ["embedded", "resumed"])
def test_a_label_is_in_the_name_of_a_part(outcome):
    label = Label("20261121T010203.456Z", outcome)
    assert Label.of(f"/a-b/c-d-e/{label}0123abcd.tfrecord") == Label.of(f"gs://b/{label}0123.tfrecord") == label


@pytest.mark.parametrize("name", ["0123abcd.tfrecord", "a-b.tfrecord", "a-b-c-d.tfrecord", ""])
def test_a_name_without_a_label(name):
    assert Label.of(f"/a-b-c/{name}") is None


def test_records_in_order_in_one_part_and_closed_at_a_size(tmp_path):
    own = writer(tmp_path, max_bytes=64 * 4)
    for i in range(100, 250):
        own.add(i)
    own.close()
    closed, seconds = own.take()
    assert [shard.records for shard in closed] == [64, 64, 22] and seconds > 0
    assert [Path(shard.path).read_text().split() for shard in closed] == [
        [str(i) for i in range(first, last)] for first, last in ((100, 164), (164, 228), (228, 250))
    ]
    assert all(Label.of(shard.path) == LABEL for shard in closed)
    assert own.take() == ([], 0.0)
    own.close()
    assert own.take()[0] == []  # without a record there is no part


def test_without_a_label_a_part_has_a_random_name(tmp_path):
    own = writer(tmp_path, label=None)
    own.add(1)
    own.close()
    (path,) = tmp_path.iterdir()
    assert Label.of(str(path)) is None and path.stem.isalnum()


@pytest.mark.slow
def test_a_record_is_on_the_disk_within_a_second(tmp_path):
    own = writer(tmp_path)
    own.add("one")  # and no further one
    added = time.monotonic()
    wait_for(lambda: content(tmp_path) == [["one"]])
    assert time.monotonic() - added < 1
    own.add("two")
    wait_for(lambda: content(tmp_path) == [["one", "two"]])
    assert parts._thread.is_alive()


class Sums:
    """A format whose files hold one number, which is known at their end."""

    suffix, has_tail, is_hashed = ".sum", False, True

    def open(self, file):
        return _Sum(file)


class _Sum:
    def __init__(self, file):
        self._file, self._sum = file, 0

    def append(self, records):
        self._sum += sum(records)

    def finish(self):
        self._file.write(b"%d" % self._sum)


@pytest.mark.slow
def test_a_part_without_a_tail_is_closed_at_an_age_on_a_disk_too(tmp_path):
    parts.reset()
    own = PartWriter(str(tmp_path), LABEL, Sums(), 2**20, max_seconds=1.0)
    for i in range(100):
        own.add(i)
    (path,) = tmp_path.iterdir()
    assert path.read_text() == "" and parts.saved(".sum") == 0
    wait_for(lambda: path.read_text() == "4950")
    wait_for(lambda: parts.saved(".sum") == 100)
    own.add(7)
    parts.save_all()  # whatever its age
    own.add(8)
    own.close()
    closed, _ = own.take()
    assert [shard.records for shard in closed] == [100, 1, 1] and parts.saved(".sum") == 102
    for shard, content in zip(closed, ("4950", "7", "8"), strict=True):
        assert Path(shard.path).read_text() == content
        assert shard.sha256 == hashlib.sha256(content.encode()).hexdigest()


def test_framed_records_are_hashed_if_asked_to(tmp_path):
    for is_hashed in (False, True):
        own = PartWriter(str(tmp_path), LABEL, Framed(".txt", lines, is_hashed), 2**20, 60.0)
        for i in range(100):
            own.add(i)
        own.close()
        (shard,), _ = own.take()
        digest = hashlib.sha256(Path(shard.path).read_bytes()).hexdigest()
        assert shard.sha256 == (digest if is_hashed else "")


CRASH = """
import sys, time
from transforms.output.parts import Framed, Label, PartWriter
numbers = Framed(".txt", lambda each: [b"%d\\n" % i for i in each])
own = PartWriter(sys.argv[1], Label("1", "embedded"), numbers, 2**20, 60.0)
for i in range(1000):
    own.add(i)
    print(i, flush=True)
    time.sleep(0.01)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_what_it_wrote_a_second_before(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", CRASH, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    added = []
    for line in process.stdout:
        added.append((time.monotonic(), int(line)))
        if len(added) == 250:
            killed = time.monotonic()
            process.send_signal(signal.SIGKILL)
    process.wait()
    ((*stored,),) = content(tmp_path)
    assert stored == [str(i) for i in range(len(stored))]
    assert len(stored) > max(i for moment, i in added if moment < killed - 1)


class _Object(io.BytesIO):
    """An object in a bucket, which exists once it is closed."""

    stored: ClassVar[dict[str, bytes]] = {}

    def __init__(self, path):
        super().__init__()
        self._path = path

    def close(self):
        if not self.closed:
            self.stored[self._path] = self.getvalue()
        super().close()


@pytest.fixture
def bucket(monkeypatch):
    """Objects by name, in the order in which they were closed."""
    monkeypatch.setattr(_Object, "stored", {})
    create = files.create
    monkeypatch.setattr(files, "create", lambda path: _Object(path) if path.startswith("gs://") else create(path))
    return _Object.stored


@pytest.mark.slow
def test_a_part_in_a_bucket_is_closed_at_an_age(bucket):
    own = writer("gs://b/parts", max_seconds=60.0)
    own.add("one")
    own.save()  # opens the part
    assert not bucket
    own._opened -= 60
    wait_for(lambda: list(bucket.values()) == [b"one\n"])
    own.add("two")
    own.close()
    assert list(bucket.values()) == [b"one\n", b"two\n"]
    assert [shard.records for shard in own.take()[0]] == [1, 1]


@pytest.mark.slow
def test_all_that_was_added_is_saved_at_once(bucket, tmp_path):
    parts.reset()
    in_bucket = writer("gs://b/parts")
    on_disk = PartWriter(str(tmp_path), LABEL, Framed(".log", lines), 2**20, 60.0)
    for own in (in_bucket, on_disk):
        for i in range(3):
            own.add(i)
    parts.save_all()
    assert list(bucket.values()) == [b"0\n1\n2\n"] and content(tmp_path) == [["0", "1", "2"]]
    assert (parts.saved(".txt"), parts.saved(".log"), parts.saved(".other")) == (3, 3, 0)
    in_bucket.add(3)
    in_bucket.close()
    on_disk.close()
    assert (parts.saved(".txt"), parts.saved(".log")) == (4, 3)
    parts.reset()
    assert parts.saved(".txt") == 0


@pytest.mark.slow
@pytest.mark.parametrize("end", [lambda own: own.add("two"), lambda own: own.close()], ids=["add", "close"])
def test_an_error_of_the_thread_comes_up_in_the_next_call(monkeypatch, tmp_path, end):
    def create(path):
        failed.set()
        raise OSError(28, "No space left on device")

    failed = threading.Event()
    monkeypatch.setattr(files, "create", create)
    own = writer(tmp_path)
    own.add("one")
    assert failed.wait(30)
    wait_for(lambda: own._error)
    with pytest.raises(OSError, match="No space left on device"):
        end(own)


@pytest.mark.slow
def test_an_error_of_one_writer_leaves_the_others(tmp_path):
    def fail(records):
        raise ValueError("no record")

    broken, well = writer(tmp_path / "a", encode=fail), writer(tmp_path / "b")
    broken.add("one")
    well.add("one")
    wait_for(lambda: content(tmp_path / "b") == [["one"]] and broken._error)
    with pytest.raises(ValueError, match="no record"):
        broken.add("two")


@pytest.mark.slow
def test_what_a_thread_writes_is_synced_every_ten_seconds(tmp_path, monkeypatch):
    synced = threading.Event()
    fsync = os.fsync
    monkeypatch.setattr(parts, "_SYNC_SECONDS", 0.5)
    monkeypatch.setattr(os, "fsync", lambda descriptor: (fsync(descriptor), synced.set()))
    own = writer(tmp_path)
    own.add("one")
    assert synced.wait(30)
    monkeypatch.setattr(os, "fsync", _no_space)
    wait_for(lambda: own._error)
    with pytest.raises(OSError, match="Input/output error"):
        own.add("two")


def _no_space(descriptor):
    raise OSError(5, "Input/output error")


@pytest.mark.slow
def test_a_process_that_is_forked_saves_its_own_records(tmp_path):
    writer(tmp_path / "parent").add("one")
    assert parts._thread.is_alive()
    pid = os.fork()
    if not pid:
        own = writer(tmp_path / "child")
        own.add("two")
        time.sleep(20)
        os._exit(1)
    try:
        wait_for(lambda: content(tmp_path / "child") == [["two"]])
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_writer_that_is_gone_is_forgotten(tmp_path):
    own = writer(tmp_path)
    own.add("one")
    own.close()
    del own
    wait_for(lambda: not [each for each in parts._writers if each._prefix.startswith(str(tmp_path))])


@pytest.fixture
def unwatched(monkeypatch):
    """Keeps the thread that saves away, so that a test decides when a part is saved."""
    monkeypatch.setattr(parts, "_watch", lambda writer: None)


@pytest.fixture
def synced(tmp_path, monkeypatch):
    """The content of each file of this test when it was synced to the disk."""
    contents = []
    fsync = os.fsync

    def spy(descriptor):
        fsync(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_relative_to(tmp_path):  # the thread may sync the parts of other tests meanwhile
            contents.append(path.read_bytes())

    monkeypatch.setattr(os, "fsync", spy)
    return contents


def test_a_part_is_synced_with_all_its_records_before_it_counts_as_closed(unwatched, synced, tmp_path):
    own = writer(tmp_path)
    for i in range(100):
        own.add(i)
    assert not synced
    own.close()
    assert synced == [b"".join(lines(range(100)))]
    assert [shard.records for shard in own.take()[0]] == [100]


def test_a_part_that_cannot_be_synced_at_its_end_is_not_taken_for_closed(unwatched, tmp_path, monkeypatch):
    own = writer(tmp_path)
    own.add("one")
    monkeypatch.setattr(os, "fsync", _no_space)
    with pytest.raises(OSError, match="Input/output error"):
        own.close()
    assert own.take()[0] == []


def test_an_open_part_is_synced_ten_seconds_after_it_was_opened_and_ten_seconds_after_that(
    unwatched, synced, tmp_path, monkeypatch
):
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    own, expected = writer(tmp_path), []
    for seconds, is_synced in ((0, False), (9.9, False), (0.2, True), (0.5, False), (9.4, False), (0.2, True)):
        now += seconds
        own.add(seconds)
        own.save()
        expected += [(tmp_path / name).read_bytes() for name in os.listdir(tmp_path)] if is_synced else []
        assert synced == expected


def test_an_error_of_a_sync_comes_up_at_the_end_too_and_nothing_is_saved_after_it(unwatched, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_SYNC_SECONDS", 0.0)
    written = []
    own = writer(tmp_path, encode=lambda records: written.extend(records) or lines(records))
    own.add("one")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _no_space)
        own.save()
    own._batch.append("two")
    own.save()
    assert written == ["one"]
    with pytest.raises(OSError, match="Input/output error"):  # though the disk takes all of it now
        own.close()
    assert own.take()[0] == []


def test_saving_leaves_no_descriptor_open(unwatched, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_SYNC_SECONDS", 0.0)
    own = writer(tmp_path)
    own.add("one")
    own.save()
    for _ in range(3):
        own.save()
        assert descriptors.of(tmp_path) == 1  # that of the part


def test_a_part_is_closed_when_it_has_just_the_size(unwatched, tmp_path):
    own = writer(tmp_path, max_bytes=64 * 4)
    for i in range(100, 164):  # 64 records of four bytes
        own.add(i)
    assert [shard.records for shard in own.take()[0]] == [64]


def test_the_seconds_of_writing_are_given_once(unwatched, tmp_path):
    own = writer(tmp_path)
    own.add("one")
    own.close()
    first, second = own.take()[1], own.take()[1]
    assert first > 0 == second


@pytest.mark.slow
def test_many_threads_add_to_one_writer(tmp_path):
    own = writer(tmp_path, max_bytes=1000)

    def add(first):
        for i in range(first, first + 1000):
            own.add(i)

    threads = [threading.Thread(target=add, args=(first,)) for first in range(0, 4000, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own.close()
    shards, _ = own.take()
    assert sum(shard.records for shard in shards) == 4000
    assert sorted(int(i) for part in content(tmp_path) for i in part) == list(range(4000))


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """A writer with a check; the sizes of all parts at each call of it; a list with the error it raises, if any."""
    calls, lost = [], []

    def check():
        calls.append([path.stat().st_size for path in tmp_path.glob("p/*")])
        if lost:
            raise lost[0]

    monkeypatch.setattr(parts, "_checked", time.monotonic())  # so that none is due
    own = PartWriter(str(tmp_path / "p"), LABEL, Framed(".txt", lines), 2**20, 60.0, check)
    return own, calls, lost


LOST = contested.Lost("taken over")


def test_a_check_is_called_after_a_part_is_visible_and_when_it_is_closed(checked, tmp_path):
    own, calls, _ = checked
    for i in range(10, 10 + parts._BATCH):
        own.add(i)
    assert calls == [[0]]
    own.close()
    assert calls == [[0], [3 * parts._BATCH]] and len(own.take()[0]) == 1


@pytest.mark.parametrize("at", ["when it is opened", "when it is closed"])
def test_a_part_is_taken_back_if_another_process_writes_by_then(checked, tmp_path, at):
    """As where the process was stopped after it had made the part visible, or before."""
    own, _, lost = checked
    if at == "when it is closed":
        own.add(1)
        own.save()
    lost.append(LOST)
    own.add(2)
    with pytest.raises(contested.Lost, match="taken over"):
        own.close()
    assert content(tmp_path / "p") == [] and own.take()[0] == []
    lost.clear()  # whatever the check says later
    with pytest.raises(contested.Lost, match="taken over"):
        own.add(3)
    own.save(close=True)
    assert content(tmp_path / "p") == []


def test_a_directory_that_another_process_has_removed_is_not_what_is_said(checked, monkeypatch):
    own, _, lost = checked
    monkeypatch.setattr(files, "create", lambda path: os.open("/nowhere/at/all", os.O_RDONLY))
    own.add(1)
    with pytest.raises(FileNotFoundError):
        own.close()
    lost.append(LOST)
    with pytest.raises(contested.Lost, match="taken over"):
        own.close()


def test_the_next_record_after_a_while_calls_the_check(checked, tmp_path, monkeypatch):
    own, calls, lost = checked
    another = PartWriter(str(tmp_path / "q"), LABEL, Framed(".txt", lines), 2**20, 60.0, own._check)
    own.add(1)
    own.save()
    lost.append(LOST)
    own.add(2)  # none is due
    assert len(calls) == 1
    monkeypatch.setattr(parts, "_checked", time.monotonic() - parts._CHECK_SECONDS)
    with pytest.raises(contested.Lost, match="taken over"):
        own.add(3)
    assert content(tmp_path / "p") == []
    with pytest.raises(contested.Lost, match="taken over"):  # all threads of the process stop at once
        another.add(1)


def test_threads_share_a_check(checked, tmp_path, monkeypatch):
    own, calls, _ = checked
    another = PartWriter(str(tmp_path / "q"), LABEL, Framed(".txt", lines), 2**20, 60.0, own._check)
    monkeypatch.setattr(parts, "_checked", time.monotonic() - parts._CHECK_SECONDS)
    for writer_of_thread in (own, another):
        writer_of_thread.add(1)
    assert calls == [[]]


def test_a_check_that_cannot_tell_stops_nothing_but_the_end_of_a_part(checked, tmp_path, monkeypatch):
    own, _, lost = checked
    own.add(1)
    own.save()
    lost.append(OSError("no route to host"))
    monkeypatch.setattr(parts, "_checked", time.monotonic() - parts._CHECK_SECONDS)
    own.add(2)
    with pytest.raises(OSError, match="no route to host"):
        own.close()
    assert content(tmp_path / "p") == [["1", "2"]]


def test_all_parts_that_are_open_are_taken_back(checked, tmp_path):
    own, _, _ = checked
    for i in range(100):
        own.add(i)
    own.save()
    parts.take_back_all()
    assert content(tmp_path / "p") == []
    with pytest.raises(contested.Lost):
        own.add(1)


def test_a_part_that_was_closed_is_not_taken_back(unwatched, tmp_path):
    own = writer(tmp_path)
    own.add(1)
    own.close()
    own.take_back()
    assert content(tmp_path) == [["1"]]
