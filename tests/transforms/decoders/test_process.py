"""transforms.decoders.process: a small process. tests/transforms/decoders/test_pool.py shows what it does."""

import contextlib
import dataclasses
import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests.helpers import data_generation as data
from tests.helpers.running import ROOT
from transforms.decoders import child, pool, process, shared_memory
from transforms.decoders.job import SLOTS, InboxImage, Job, Settings
from transforms.decoders.shared_memory import SharedMemory
from transforms.elements.records import EncodedImage, Failure, ImageRef
from transforms.images import decoding, memory
from transforms.images.decode_settings import DecodeSettings
from transforms.storage import read_image

IMPORTED = """
import sys
import transforms.decoders.process
print(*{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.slow
def test_it_is_small():
    done = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert imported >= {"numpy", "PIL"}
    assert not imported & {"apache_beam", "tensorflow", "pyarrow", "openvino", "requests"}


def test_large_images_of_several_processes_take_turns(tmp_path):
    """Two budgets of one process cannot exclude each other by a lock of files, so the other one is a process."""
    descriptor = shared_memory.create()
    state = SharedMemory(descriptor, 1, 1, (1, 1))
    os.close(descriptor)
    with open(tmp_path / "turns", "w+b") as turns:
        budget = process._Turns(100, turns.fileno(), state)
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(turns.fileno())],
            pass_fds=(turns.fileno(),),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert holder.stdout.readline() == "holds\n"
        state.begin(1, 0)
        budget.take(99)  # small enough to be decoded beside others
        budget.give_back(99)
        took = threading.Event()
        thread = threading.Thread(target=lambda: (budget.take(100), took.set()))
        thread.start()
        assert not took.wait(0.5) and state.at_work() is None  # while it waits, no time counts against the image
        holder.communicate("end")
        assert took.wait(30) and state.at_work()[:2] == (1, 0)
        thread.join()
        budget.give_back(100)


HOLD = """
import fcntl, sys
fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)
print("holds", flush=True)
sys.stdin.read()
"""


SETTINGS = Settings(1, DecodeSettings((24, 32)), 4, None, timeout=60.0)


@pytest.fixture
def decoder():
    """The part of a decoder process that reads and decodes, in this process."""
    descriptors = [shared_memory.create() for _ in range(1 + SLOTS)]
    state = SharedMemory(descriptors[0], SLOTS, SETTINGS.job_images, SETTINGS.images.size)
    yield process._Decoder(SETTINGS, state, descriptors[1:])
    for descriptor in descriptors:
        os.close(descriptor)


def photograph(path, seed, **changes):
    path.write_bytes(data.jpeg(seed, 30, 40))
    return ImageRef(os.fsencode(path), **changes)


def test_a_job_has_a_result_for_each_image(tmp_path, decoder):
    refs = [photograph(tmp_path / f"{seed}.jpg", seed) for seed in range(3)]
    missing, given_up = (
        ImageRef(os.fsencode(tmp_path / "none.jpg")),
        Failure(refs[2].key, "decode", "E", "twice", False),
    )
    encoded = data.jpeg(7, 30, 40)
    os.pwrite(decoder._inboxes[1], b"before" + encoded + b"behind", 0)
    images = (refs[0], InboxImage(ImageRef(b"/stored.jpg"), 6, len(encoded)), refs[2], missing, refs[1])
    job = Job(1, images, {2: given_up})
    done = decoder.done(job, decoder.start(job))
    first, stored, third, fourth, last = done.results
    assert (done.slot, third, fourth.stage, fourth.retryable) == (1, given_up, "read", True)
    for info, ref, seed, at in ((first, refs[0], 0, 0), (stored, images[1].ref, 7, 1), (last, refs[1], 1, 4)):
        content = data.jpeg(seed, 30, 40)
        assert (info.ref.key, info.sha256) == (ref.key, hashlib.sha256(content).hexdigest())
        assert (info.format, info.height, info.width) == ("jpeg", 30, 40)
        np.testing.assert_array_equal(decoder._state.pixels[1, at], decoding.decode(content, (24, 32)).pixels)
    # What was stored was read elsewhere, and a failure from before is neither read nor decoded.
    assert [seconds is None for seconds in done.read] == [False, True, True, False, False]
    assert [seconds is None for seconds in done.decode] == [False, False, True, True, False]
    assert done.bytes_read == sum(len(data.jpeg(seed, 30, 40)) for seed in (0, 1))
    again = Job(0, (refs[0],), {})
    assert decoder.done(again, decoder.start(again)).bytes_read == len(data.jpeg(0, 30, 40))


def test_only_images_of_other_machines_are_read_ahead(tmp_path, decoder, monkeypatch):
    read = []

    def of_a_bucket(storage, ref):
        read.append(ref.key)
        return EncodedImage(ref, data.jpeg(3, 30, 40))

    monkeypatch.setattr(read_image, "read_or_failure", of_a_bucket)
    local, remote = photograph(tmp_path / "0.jpg", 0), ImageRef(b"gs://bucket/3.jpg")
    given_up = Failure(remote.key, "decode", "E", "twice", False)
    job = Job(0, (local, remote, InboxImage(local, 0, 0), remote), {3: given_up})
    started = decoder.start(job)
    assert [each is None for each in started] == [True, False, True, True]
    started[1].result()
    assert read == [remote.key]


def test_the_time_of_the_core_and_the_seconds_of_decoding_are_those_of_the_job(tmp_path, decoder, monkeypatch):
    cores, seconds = iter((1.0, 4.0)), iter((10.0, 11.0, 20.0, 23.0))  # of a job; of reading, of decoding
    decoder._core_seconds = 0.5
    monkeypatch.setattr(time, "process_time", lambda: next(cores))
    monkeypatch.setattr(time, "perf_counter", lambda: next(seconds))
    job = Job(0, (photograph(tmp_path / "0.jpg", 0),), {})
    done = decoder.done(job, [None])
    assert (done.read, done.decode, done.core_seconds) == ((1.0,), (3.0,), 0.5)
    assert decoder.done(Job(0, job.images, {0: Failure(b"", "", "", "", False)}), [None]).core_seconds == 3.0


def test_an_image_is_at_work_while_it_is_decoded_and_not_before_or_after(tmp_path, decoder, monkeypatch):
    seen, decode, read = [], decoding.decode_into, read_image.read_or_failure

    def look(then):
        def looked(*args, **options):
            seen.append(at_work and at_work[:2] if (at_work := decoder._state.at_work()) else None)
            return then(*args, **options)

        return looked

    monkeypatch.setattr(decoding, "decode_into", look(decode))
    monkeypatch.setattr(read_image, "read_or_failure", look(read))
    images = (photograph(tmp_path / "0.jpg", 0), photograph(tmp_path / "1.jpg", 1))
    decoder.done(Job(2, images, {}), [None, None])
    assert seen == [None, (2, 0), None, (2, 1)] and decoder._state.at_work() is None


def test_an_image_of_more_pixels_than_the_settings_allow_is_a_failure(tmp_path, decoder):
    decoder._settings = dataclasses.replace(SETTINGS, images=DecodeSettings((24, 32), max_pixels=30 * 40 - 1))
    (failure,) = decoder.done(Job(0, (photograph(tmp_path / "0.jpg", 0),), {}), [None]).results
    assert failure.error == "TooManyPixels"


# A worker with a process that ends with it, as it says, whatever else it does.
WORKER = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.DEVNULL)
sys.stdin.read()
"""
DECODER = """
import os, time
from transforms.decoders import process
process._end_with(os.getppid())
print(os.getpid(), flush=True)
time.sleep(3600)
"""


@pytest.mark.slow
def test_a_process_ends_with_the_worker_even_while_it_hangs():
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, DECODER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    decoder = int(worker.stdout.readline())
    worker.kill()
    try:
        worker.communicate(timeout=30)  # to the end of what both write
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(decoder, signal.SIGKILL)


@pytest.mark.slow
def test_a_process_whose_worker_is_gone_when_it_starts_ends():
    code = "from transforms.decoders import process; process._end_with(0); print('goes on')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")


LIMITED = """
import mmap
from transforms.decoders import process
process._limit_memory()
mmap.mmap(-1, 3 << 30).close()
try:
    mmap.mmap(-1, 5 << 30)
except OSError:
    print("refused")
"""


@pytest.mark.slow
def test_a_process_may_take_four_gibibytes_more_than_at_its_start():
    done = subprocess.run([sys.executable, "-c", LIMITED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"


@pytest.mark.slow
def test_a_process_of_a_pool_has_that_bound_and_says_all_the_time_that_it_runs(tmp_path):
    user = pool.join(SETTINGS)
    try:
        (only,) = user.pool._dispatcher.children
        assert len([*user.submit([photograph(tmp_path / "a.jpg", 0)]), *user.rest()]) == 1
        most, _ = resource.prlimit(only._process.pid, resource.RLIMIT_AS)
        assert 4 << 30 < most < 16 << 30
        silent, end = only.shared.silent_seconds(), time.monotonic() + 20
        while (now := only.shared.silent_seconds()) >= silent:
            silent = now
            assert time.monotonic() < end, "it says nothing"
            time.sleep(0.01)
    finally:
        pool.leave(SETTINGS, user)


@pytest.mark.slow
def test_an_interruption_is_for_the_worker(tmp_path):
    """Ctrl-C goes to all processes of a terminal."""
    refs = [photograph(tmp_path / f"{seed}.jpg", seed) for seed in range(2)]
    user = pool.join(SETTINGS)
    try:
        (only,) = user.pool._dispatcher.children
        results = []
        for ref in refs:
            results += [*user.submit([ref]), *user.rest()]
            os.kill(only._process.pid, signal.SIGINT)
        assert [len(decoded.done.results) for decoded in results] == [1, 1]
        assert user.pool._dispatcher.children == [only] and only._process.poll() is None
    finally:
        pool.leave(SETTINGS, user)


@pytest.mark.slow
def test_large_images_give_their_turn_back(tmp_path):
    descriptor = shared_memory.create()
    state = SharedMemory(descriptor, 1, 1, (1, 1))
    os.close(descriptor)
    with open(tmp_path / "turns", "w+b") as turns:
        budget = process._Turns(100, turns.fileno(), state)
        for size, is_free in ((99, True), (100, False), (101, False)):
            budget.take(size)
            assert can_be_taken(turns.fileno()) is is_free
            budget.give_back(size)
            assert can_be_taken(turns.fileno())


def can_be_taken(descriptor):
    """Returns whether another process could take its turn now."""
    code = f"import fcntl; fcntl.lockf({descriptor}, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    done = subprocess.run([sys.executable, "-c", code], pass_fds=[descriptor], capture_output=True, check=False)
    return done.returncode == 0


def test_memory_of_a_large_image_is_returned(tmp_path, monkeypatch):
    returned = []
    monkeypatch.setattr(memory, "return_freed_memory", lambda: returned.append(True))
    budget = process._Turns(2**40, -1, None)
    budget.give_back(memory.RETURNED_BYTES - 1)
    assert not returned
    budget.give_back(memory.RETURNED_BYTES)
    assert returned


@pytest.mark.slow
def test_a_process_ends_when_its_connection_is_closed():
    with open("/dev/null") as turns:
        started = child.Child(SETTINGS, turns.fileno())
    started.connection.recv()  # it is ready
    started.connection.close()
    try:
        assert started._process.wait(30) == 0
    finally:
        started.end()


# What a process does at its start: it tells how many bytes of pixels it may decode at once.
TELLS = """
from pathlib import Path
from transforms.images import decoding, memory
decode = decoding.decode_into

def tell(*args, **options):
    Path({path!r}).write_text(f"{{memory.BUDGET.total}} {{type(memory.BUDGET).__name__}}")
    return decode(*args, **options)

decoding.decode_into = tell
"""


@pytest.mark.slow
def test_processes_share_the_memory_for_decoding(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(TELLS.format(path=str(tmp_path / "told")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    settings = dataclasses.replace(SETTINGS, processes=2)
    user = pool.join(settings)
    try:
        _ = [*user.submit([photograph(tmp_path / "0.jpg", 0)]), *user.rest()]
    finally:
        pool.leave(settings, user)
    assert (tmp_path / "told").read_text() == f"{memory.DECODING_BYTES // 2} _Turns"
