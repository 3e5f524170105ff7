"""transforms.decoders.pool: each image has one result, whatever becomes of the processes that decode."""

import dataclasses
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.helpers import data_generation as data
from tests.helpers.decoder_pools import SETTINGS, check, children, files, results
from transforms.decoders import child, pool
from transforms.decoders.job import SLOTS
from transforms.elements.records import EncodedImage, ImageInfo, ImageRef
from transforms.images import decoding

pytestmark = pytest.mark.slow


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
            process = children(user)[jobs % 2]._process
            killed.append(process.pid)
            process.kill()
            process.wait(60)

    check(results(user, files(tmp_path / "photos", 100), at_once=3, after=kill), 100)
    assert len(set(killed)) >= 4


def test_a_process_that_was_stopped_costs_no_image(tmp_path, joined, monkeypatch):
    user = joined()

    def stop(jobs):
        if jobs == 5:
            monkeypatch.setattr(child, "_SILENT_SECONDS", 3.0)  # enough for the next process to start
            os.kill(children(user)[0]._process.pid, signal.SIGSTOP)

    found = results(user, files(tmp_path / "photos", 60), at_once=3, after=stop)
    # It may have been stopped while it decoded. Then it is not silent, and `timeout` ends it.
    check(found, 60)


def test_a_process_that_is_stopped_between_images_is_replaced_after_the_timeout(tmp_path, joined):
    user = joined(dataclasses.replace(SETTINGS, processes=1, timeout=1.0))
    first, *rest = files(tmp_path / "photos", 20)
    found = results(user, [first])
    process = children(user)[0]
    os.kill(process._process.pid, signal.SIGSTOP)
    start = time.monotonic()
    found |= results(user, rest)
    assert time.monotonic() - start < 60 and children(user)[0] is not process
    check(found, 20)


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
    processes = [each._process for each in children(first)]
    pool.leave(SETTINGS, first)
    assert [process.poll() for process in processes] == [None, None]
    pool.leave(SETTINGS, second)
    assert [process.poll() for process in processes] == [-signal.SIGKILL] * 2


WORKER = """
import os, sys, time
from transforms.decoders import pool
from transforms.decoders.job import Settings
from transforms.images.decode_settings import DecodeSettings
from transforms.elements.records import ImageRef
from transforms.storage.context import DEFAULT_STORAGE

user = pool.join(Settings(2, DecodeSettings((24, 32)), 4, None, timeout=3600.0))
list(user.submit([ImageRef(os.fsencode(path)) for path in sys.argv[1:]]))
children = user.pool._dispatcher.children
while not any(child.shared.at_work() for child in children):
    time.sleep(0.01)
print(*(child._process.pid for child in children), flush=True)
time.sleep(3600)
"""


def test_the_processes_end_with_the_worker_whatever_happens(tmp_path, hostile):
    """One of them is idle, and one hangs in C with Python's lock."""
    (ref,) = files(tmp_path / "photos", 0, "hold")
    worker = subprocess.Popen([sys.executable, "-c", WORKER, ref.key], stdout=subprocess.PIPE, text=True)
    pids = [int(text) for text in worker.stdout.readline().split()]
    assert len(pids) == 2
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


def wait_for_results(user, count):
    with user.pool._changed:
        user.pool._wait(user, lambda: len(user.tasks.results) == count)


def test_results_that_were_not_taken_leave_their_places_when_a_bundle_fails(tmp_path, joined):
    user = joined(dataclasses.replace(SETTINGS, processes=1))
    (process,) = children(user)
    refs = files(tmp_path / "photos", SLOTS)
    for ref in refs:
        assert list(user.submit([ref])) == []
    wait_for_results(user, SLOTS)
    assert process.free_slots() == []
    user.forget()
    assert process.free_slots() == list(range(SLOTS)) and not user.tasks.under_way
    check(results(user, refs), SLOTS)


def test_results_of_a_user_that_leaves_and_is_kept_leave_their_places(tmp_path, joined):
    settings = dataclasses.replace(SETTINGS, processes=1)
    user, other = joined(settings), joined(settings)
    (process,) = children(other)
    assert list(user.submit(files(tmp_path / "photos", 1))) == []
    wait_for_results(user, 1)
    assert not other.pool.leave(user)
    assert process.free_slots() == list(range(SLOTS))


def test_a_place_is_free_again_when_its_result_was_taken_even_by_a_bundle_that_fails(tmp_path, joined):
    user = joined(dataclasses.replace(SETTINGS, processes=1))
    (process,) = children(user)
    for ref in files(tmp_path / "photos", 2):
        assert list(user.submit([ref])) == []
    wait_for_results(user, 2)
    taken = user.ready()
    next(taken)
    assert len(process.free_slots()) == SLOTS - 2  # its pixels are in use
    taken.close()  # the rest of the bundle fails
    next(user.ready())
    assert len(process.free_slots()) == SLOTS - 1
    user.forget()
    assert len(process.free_slots()) == SLOTS


def test_the_seconds_of_waiting_are_given_once(tmp_path, joined):
    user = joined()
    results(user, files(tmp_path / "photos", 1))
    assert user.take_waited() > 0 == user.take_waited()


def test_results_of_a_user_that_is_gone_leave_their_places(tmp_path, joined):
    settings = dataclasses.replace(SETTINGS, processes=1)
    kept, lost = joined(settings), pool.join(settings)
    (process,) = children(kept)
    assert list(lost.submit(files(tmp_path / "photos", 1))) == []
    wait_for_results(lost, 1)
    assert len(process.free_slots()) == SLOTS - 1
    del lost  # its bundle has failed, and nobody told it to forget
    gc.collect()
    assert len(process.free_slots()) == SLOTS
