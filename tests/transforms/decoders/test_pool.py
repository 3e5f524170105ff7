"""transforms.decoders.pool: each image has one result, whatever becomes of the processes that decode."""

import dataclasses
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import data_generation as data
from tests.helpers import descriptors
from transforms.decoders import pool, shared_memory
from transforms.decoders.job import SLOTS, Settings, Stored
from transforms.elements.records import EncodedImage, Failure, ImageInfo, ImageRef
from transforms.images import decoding
from transforms.images.resizing import Resizing

pytestmark = pytest.mark.slow

SETTINGS = Settings(2, (24, 32), Resizing(), decoding.MAX_PIXELS_DEFAULT, 4, None, timeout=60.0)
# What a decoder process does at its start: images that end in a word make it hang, crash, or ask for too much memory.
HOSTILE = """
import ctypes, time
from transforms.images import decoding

decode = decoding.decode

def hostile(encoded, *args, **kwargs):
    if encoded.endswith(b"hang"):
        time.sleep(3600)
    if encoded.endswith(b"hold"):  # hangs in C, with Python's lock
        ctypes.PyDLL(None).sleep(3600)
    if encoded.endswith(b"crash"):
        ctypes.string_at(0)
    if encoded.endswith(b"memory"):
        try:
            bytearray(8 << 30)
        except MemoryError as error:
            raise decoding.OutOfMemory("too much") from error
    return decode(encoded, *args, **kwargs)

decoding.decode = hostile
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """Lets processes start with HOSTILE."""
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(HOSTILE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "start"))


@pytest.fixture
def joined():
    """Returns a function that joins a pool; all leave at the end."""
    users = []

    def join(settings=SETTINGS):
        users.append((settings, pool.join(settings)))
        return users[-1][1]

    yield join
    for settings, user in users:
        pool.leave(settings, user)


def files(directory, count, *words):
    """Returns the refs of photographs, and of others that end in a word each."""
    directory.mkdir(exist_ok=True)
    contents = {f"{seed}.jpg": data.jpeg(seed, 30, 40) for seed in range(count)}
    contents |= {f"{word}.jpg": data.jpeg(99, 30, 40) + word.encode() for word in words}
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return [ImageRef(os.fsencode(directory / name)) for name in contents]


def results(user, images, at_once=7, after=lambda jobs: None):
    """Returns {name: result or pixels} of all images."""
    found = {}

    def take(decoded):
        for index, result in enumerate(decoded.done.results):
            is_failure = isinstance(result, Failure)
            key = result.key if is_failure else result.ref.key
            name = key.rpartition(b"/")[2].decode()
            assert name not in found
            found[name] = result if is_failure else (result, decoded.pixels[index].copy())

    for start in range(0, len(images), at_once):
        for decoded in user.submit(images[start : start + at_once]):
            take(decoded)
        after(start // at_once + 1)
    for decoded in user.rest():
        take(decoded)
    return found


def check(found, count, **failures):
    """Asserts that all photographs were decoded as `decode` does it, and that the others are failures."""
    for seed in range(count):
        info, pixels = found.pop(f"{seed}.jpg")
        expected = decoding.decode(data.jpeg(seed, 30, 40), (24, 32))
        assert isinstance(info, ImageInfo) and (info.format, info.height, info.width) == ("jpeg", 30, 40)
        np.testing.assert_array_equal(pixels, expected.pixels)
    assert {name: (failure.stage, failure.error) for name, failure in found.items()} == failures


@pytest.mark.parametrize("read", ["by the processes", "before"])
def test_images_become_what_decode_makes_of_them(tmp_path, joined, read):
    refs = files(tmp_path / "photos", 50)
    (tmp_path / "photos" / "3.jpg").write_bytes(data.jpeg(3, 30, 40)[:200])
    (tmp_path / "photos" / "4.jpg").unlink()
    if read == "before":
        del refs[4]
        refs = [EncodedImage(ref, open(ref.key, "rb").read()) for ref in refs]  # noqa: SIM115
    found = results(joined(), refs)
    failures = {"3.jpg": ("decode", "CorruptImage")}
    assert found.pop("3.jpg").stage == "decode"
    if read == "by the processes":
        assert (found["4.jpg"].stage, found.pop("4.jpg").retryable) == ("read", True)
    for name in ("3.jpg", "4.jpg"):
        failures.pop(name, None)
        seed = int(name[0])
        found[name] = (
            ImageInfo(ImageRef(b""), "", "jpeg", 30, 40),
            decoding.decode(data.jpeg(seed, 30, 40), (24, 32)).pixels,
        )
    check(found, 50)


def test_many_threads_share_the_processes(tmp_path, joined):
    refs = files(tmp_path / "photos", 60)
    found = {}

    def run(number):
        found[number] = results(joined(), refs[number::6], at_once=2)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(map(len, found.values())) == 60
    check({name: result for each in found.values() for name, result in each.items()}, 60)


def test_a_process_that_is_killed_costs_no_image(tmp_path, joined):
    user = joined()
    killed = []

    def kill(jobs):
        if jobs % 4 == 0:
            process = user._pool._processes[jobs % 2]._process
            killed.append(process.pid)
            process.kill()

    check(results(user, files(tmp_path / "photos", 100), at_once=3, after=kill), 100)
    assert len(set(killed)) >= 4


def test_a_process_that_was_stopped_costs_no_image(tmp_path, joined, monkeypatch):
    monkeypatch.setattr(pool, "_SILENT_SECONDS", 1.0)
    user = joined()

    def stop(jobs):
        if jobs == 5:
            os.kill(user._pool._processes[0]._process.pid, signal.SIGSTOP)

    found = results(user, files(tmp_path / "photos", 60), at_once=3, after=stop)
    # It may have been stopped while it decoded. Then it is not silent, and `timeout` ends it.
    check(found, 60)


def test_a_process_that_is_stopped_between_images_is_replaced_after_the_timeout(tmp_path, joined):
    user = joined(dataclasses.replace(SETTINGS, processes=1, timeout=1.0))
    first, *rest = files(tmp_path / "photos", 20)
    found = results(user, [first])
    process = user._pool._processes[0]
    os.kill(process._process.pid, signal.SIGSTOP)
    start = time.monotonic()
    found |= results(user, rest)
    assert time.monotonic() - start < 60 and user._pool._processes[0] is not process
    check(found, 20)


def test_processes_that_were_stopped_with_the_worker_have_time_to_say_that_they_run(tmp_path, joined):
    user = joined(dataclasses.replace(SETTINGS, timeout=1.0))
    refs = files(tmp_path / "photos", 20)
    found = results(user, refs[:10])
    processes = list(user._pool._processes)
    for process in processes:
        os.kill(process._process.pid, signal.SIGSTOP)
    for start in (10, 15):
        assert list(user.submit(refs[start : start + 5])) == []
    with user._pool._changed:
        for process in processes:
            process.shared._state[shared_memory._BEAT] -= 100  # as if they had been stopped so long ago
        user._pool._looked -= 100
        user._pool._end_what_hangs()
    for process in processes:
        os.kill(process._process.pid, signal.SIGCONT)
        while process.shared.silent_seconds() > 50:  # a sleep of 100 s would be over at once
            time.sleep(0.01)
    found |= results(user, [])
    check(found, 20)
    assert user._pool._processes == processes


@pytest.mark.parametrize("word", ["hang", "hold"])
def test_an_image_that_hangs_costs_itself_alone(tmp_path, joined, hostile, word):
    user = joined(dataclasses.replace(SETTINGS, timeout=1.5))
    found = results(user, files(tmp_path / "photos", 40, word))
    assert found[f"{word}.jpg"].retryable and "took more than 1.5 s" in found[f"{word}.jpg"].message
    check(found, 40, **{f"{word}.jpg": ("decode", "TookTooLong")})


def test_an_image_that_crashes_a_decoder_costs_itself_alone(tmp_path, joined, hostile):
    found = results(joined(), files(tmp_path / "photos", 40, "crash", "memory"))
    check(found, 40, **{"crash.jpg": ("decode", "KilledTheProcess"), "memory.jpg": ("decode", "OutOfMemory")})


def test_many_images_that_crash_a_decoder_in_one_job(tmp_path, joined, hostile):
    refs = files(tmp_path / "photos", 10)
    for name in "abcd":
        (tmp_path / "photos" / f"{name}.jpg").write_bytes(data.jpeg(99, 30, 40) + b"crash")
        refs.append(ImageRef(os.fsencode(tmp_path / "photos" / f"{name}.jpg")))
    found = results(joined(), refs, at_once=14)
    check(found, 10, **{f"{name}.jpg": ("decode", "KilledTheProcess") for name in "abcd"})


def test_processes_that_cannot_start_fail_the_bundle(tmp_path, joined, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(
        RuntimeError, match="5 decoder processes ended one after the other, the last one with exit code 1"
    ):
        results(user := joined(), files(tmp_path / "photos", 3))
    with pytest.raises(RuntimeError, match="decoder processes ended one after the other"):  # the bundle runs again
        results(user, files(tmp_path / "photos", 3))


def test_jobs_that_are_dropped_leave_room_for_others(tmp_path, joined):
    user = joined()
    refs = files(tmp_path / "photos", 30)
    for _ in range(3 * SLOTS):
        for _ in user.submit(refs[:2]):
            break
        user.forget()
    check(results(user, refs), 30)


def test_a_user_that_is_gone_leaves_its_places_to_others(tmp_path, joined):
    refs = files(tmp_path / "photos", 30)
    first, user = joined(), joined()
    for _ in range(3 * SLOTS):
        lost = pool.join(SETTINGS)
        for _ in lost.submit(refs[:2]):
            break
        del lost
    check(results(user, refs), 30)
    assert first is not user


def test_the_processes_end_with_their_last_user(joined):
    first, second = pool.join(SETTINGS), pool.join(SETTINGS)
    processes = [each._process for each in first._pool._processes]
    pool.leave(SETTINGS, first)
    assert [process.poll() for process in processes] == [None, None]
    pool.leave(SETTINGS, second)
    assert [process.poll() for process in processes] == [-signal.SIGKILL] * 2


WORKER = """
import os, sys, time
from transforms.decoders import pool
from transforms.decoders.job import Settings
from transforms.images.resizing import Resizing
from transforms.elements.records import ImageRef

user = pool.join(Settings(2, (24, 32), Resizing(), 10**8, 4, None, timeout=3600.0))
list(user.submit([ImageRef(os.fsencode(path)) for path in sys.argv[1:]]))
print(*(each._process.pid for each in user._pool._processes), flush=True)
time.sleep(3600)
"""


def test_the_processes_end_with_the_worker_whatever_happens(tmp_path, hostile):
    """One of them is idle, and one hangs in C with Python's lock."""
    (ref,) = files(tmp_path / "photos", 0, "hold")
    worker = subprocess.Popen([sys.executable, "-c", WORKER, ref.key], stdout=subprocess.PIPE, text=True)
    pids = [int(text) for text in worker.stdout.readline().split()]
    time.sleep(1.0)
    worker.kill()
    worker.wait()
    end = time.monotonic() + 30
    while any(is_alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.1)
    assert [pid for pid in pids if is_alive(pid)] == []


def is_alive(pid):
    try:
        return " Z " not in open(f"/proc/{pid}/stat").read()
    except FileNotFoundError:
        return False


def test_an_image_is_to_blame_when_two_processes_have_died_over_it(tmp_path):
    refs = (ImageRef(b"/a.jpg"), EncodedImage(ImageRef(b"/b.jpg"), b""), ImageRef(b"/c.jpg"))
    task = pool._Task(threading.Event(), refs)
    task.blame(0, None)
    task.blame(1, None)
    assert task.failed == {}  # something else may have ended either
    task.blame(1, None)
    task.blame(2, pool.TookTooLong("decoding took more than 60 s"))
    assert task.failed == {
        1: Failure(
            b"/b.jpg",
            "decode",
            "KilledTheProcess",
            "twice, when a decoder process died, it was decoding this image",
            retryable=False,
        ),
        2: Failure(b"/c.jpg", "decode", "TookTooLong", "decoding took more than 60 s", retryable=True),
    }


def test_an_image_that_has_killed_processes_of_a_run_says_how_many():
    assert pool.quarantined(b"/a.jpg", 2).message.startswith("twice, when a process of this run died")
    assert pool.quarantined(b"/a.jpg", 3).message.startswith("3 times, when a process of this run died")
    assert not pool.quarantined(b"/a.jpg", 3).retryable


def test_a_process_that_dies_over_an_image_is_held_against_no_image_of_another_job(tmp_path, joined, hostile):
    user = joined(dataclasses.replace(SETTINGS, processes=1))
    first, second, crash = files(tmp_path / "photos", 2, "crash")
    check(results(user, [crash, first, second], at_once=1), 2, **{"crash.jpg": ("decode", "KilledTheProcess")})


def test_two_processes_die_over_an_image_and_no_third(tmp_path, joined, hostile, monkeypatch):
    user = joined(dataclasses.replace(SETTINGS, processes=1))
    started, start = [], user._pool._start
    monkeypatch.setattr(user._pool, "_start", lambda: started.append(start()) or started[-1])
    check(results(user, files(tmp_path / "photos", 0, "crash")), 0, **{"crash.jpg": ("decode", "KilledTheProcess")})
    assert len(started) == 2


def wait_for_results(user, count):
    with user._pool._changed:
        user._pool.wait(lambda: len(user._results) == count)


def test_results_that_were_not_taken_leave_their_places_when_a_bundle_fails(tmp_path, joined):
    user = joined(dataclasses.replace(SETTINGS, processes=1))
    (process,) = user._pool._processes
    refs = files(tmp_path / "photos", SLOTS)
    for ref in refs:
        assert list(user.submit([ref])) == []
    wait_for_results(user, SLOTS)
    assert process.free == []
    user.forget()
    assert sorted(process.free) == list(range(SLOTS)) and not user._tasks
    check(results(user, refs), SLOTS)


def test_results_of_a_user_that_leaves_and_is_kept_leave_their_places(tmp_path, joined):
    settings = dataclasses.replace(SETTINGS, processes=1)
    user, other = joined(settings), joined(settings)
    (process,) = other._pool._processes
    assert list(user.submit(files(tmp_path / "photos", 1))) == []
    wait_for_results(user, 1)
    assert not other._pool.leave(user)
    assert sorted(process.free) == list(range(SLOTS))


def test_a_place_is_free_again_when_its_result_was_taken_even_by_a_bundle_that_fails(tmp_path, joined):
    user = joined(dataclasses.replace(SETTINGS, processes=1))
    (process,) = user._pool._processes
    for ref in files(tmp_path / "photos", 2):
        assert list(user.submit([ref])) == []
    wait_for_results(user, 2)
    taken = user.ready()
    next(taken)
    assert len(process.free) == SLOTS - 2  # its pixels are in use
    taken.close()
    assert len(process.free) == SLOTS - 1


def test_users_share_the_places(joined):
    first = joined()
    every = SLOTS * 2
    assert [first._pool.has_room(jobs) for jobs in (0, every - 1, every)] == [True, True, False]
    for _ in range(3):
        joined()
    assert [first._pool.has_room(jobs) for jobs in (0, 1)] == [True, False]
    for _ in range(2 * every):
        joined()
    assert [first._pool.has_room(jobs) for jobs in (0, 1)] == [True, False]  # each has one, in turn
    for process in first._pool._processes:
        process.free.clear()
    assert not first._pool.has_room(0)


def test_a_job_goes_to_the_process_that_has_the_fewest(tmp_path, joined):
    user = joined()
    one, other = user._pool._processes
    one.free.pop()
    sent = []
    for process in (one, other):
        process.send = lambda number, task, process=process: sent.append((process, number))
    for _ in range(2):
        user._pool.send(None)
    assert sent == [(other, 1), (other, 2)]


def test_the_seconds_of_waiting_are_given_once(tmp_path, joined):
    user = joined()
    results(user, files(tmp_path / "photos", 1))
    assert user.take_waited() > 0 == user.take_waited()


def test_a_process_costs_no_descriptor_once_it_is_gone(tmp_path, joined):
    kept, refs = joined(), files(tmp_path / "photos", 1)
    results(kept, refs)
    gc.collect()  # those of other tests
    before = descriptors.of("/memfd:decoder")
    settings = dataclasses.replace(SETTINGS, processes=1)
    for _ in range(2):
        user = pool.join(settings)
        results(user, refs)
        pool.leave(settings, user)
        assert settings not in pool._pools
        del user
        gc.collect()  # a process and its memory
        assert descriptors.of("/memfd:decoder") == before
    assert kept._pool._processes[0]._process.poll() is None


def test_libraries_of_a_process_start_no_threads_of_their_own(joined):
    process = joined()._pool._processes[0]._process
    assert b"\0OMP_NUM_THREADS=1\0" in Path(f"/proc/{process.pid}/environ").read_bytes()


@pytest.mark.parametrize(
    ("beat", "heard", "is_silent"),
    [(0, 0, False), (64.9, 0, False), (65.1, 0, True), (0, 599.9, False), (0, 600.1, True)],
    ids=["lives", "may be late", "is stopped", "may still read", "hangs in reading"],
)
def test_when_a_process_is_silent(joined, monkeypatch, beat, heard, is_silent):
    process = joined(dataclasses.replace(SETTINGS, processes=1))._pool._processes[0]
    with monkeypatch.context() as patch:
        patch.setattr(process, "heard", 1000 - heard)
        patch.setattr(process.shared, "silent_seconds", lambda: beat)
        patch.setattr(time, "monotonic", lambda: 1000)
        assert process.is_silent(60.0) is is_silent


def test_a_process_that_was_idle_for_long_has_all_the_time_for_its_next_job(tmp_path, joined):
    user = joined(dataclasses.replace(SETTINGS, processes=1))
    (process,) = user._pool._processes
    refs = files(tmp_path / "photos", 2)
    found = results(user, refs[:1])
    process.heard -= 2 * pool._SILENT_SECONDS
    assert process.is_silent(60.0)
    with user._pool._changed:
        user._pool._end_what_hangs()  # without a job, it has nothing to say
    found |= results(user, refs[1:])
    check(found, 2)
    assert user._pool._processes == [process]


def test_five_processes_may_end_one_after_the_other_and_no_sixth(tmp_path, joined, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    started, start = [], pool.Pool._start
    monkeypatch.setattr(pool.Pool, "_start", lambda own: started.append(start(own)) or started[-1])
    with pytest.raises(RuntimeError, match="5 decoder processes ended one after the other"):
        results(joined(dataclasses.replace(SETTINGS, processes=1)), files(tmp_path / "photos", 1))
    assert len(started) == 1 + pool._MOST_DEATHS


def test_an_inbox_holds_the_images_of_its_job_alone(joined):
    process = joined()._pool._processes[0]
    refs = [ImageRef(b"/%d.jpg" % number) for number in range(3)]
    images = [EncodedImage(refs[0], b"a" * 1000), refs[1], EncodedImage(refs[2], b"bc")]
    assert list(process._stored(images, 1)) == [Stored(refs[0], 0, 1000), refs[1], Stored(refs[2], 1000, 2)]
    assert list(process._stored(images[2:], 1)) == [Stored(refs[2], 0, 2)]
    assert os.pread(process._inboxes[1], 2000, 0) == b"bc"


def test_results_of_a_user_that_is_gone_leave_their_places(tmp_path, joined):
    settings = dataclasses.replace(SETTINGS, processes=1)
    kept, lost = joined(settings), pool.join(settings)
    (process,) = kept._pool._processes
    assert list(lost.submit(files(tmp_path / "photos", 1))) == []
    wait_for_results(lost, 1)
    assert len(process.free) == SLOTS - 1
    del lost  # its bundle has failed, and nobody told it to forget
    gc.collect()
    assert len(process.free) == SLOTS
