"""transforms.concurrent.process_meter: all threads of the process but the model's, by the clocks of real threads."""

import ctypes
import gc
import hashlib
import threading
import time

import pytest

from transforms.concurrent import process_meter
from transforms.concurrent.process_meter import ProcessMeter

CONTENT = bytes(4 << 20)  # its digest is computed without the lock
WORK = 0.4  # seconds of a core
# Seconds by which the clocks of several threads may be off on a busy machine.
CLOSE = {"abs": 0.1}


class User:
    """A user of the meter, as a DoFn is."""


@pytest.fixture
def meter():
    return ProcessMeter()


def digests():
    until = time.thread_time() + WORK
    while time.thread_time() < until:
        hashlib.sha256(CONTENT).digest()


def python():
    until = time.thread_time() + WORK
    while time.thread_time() < until:
        pass


def in_threads(*works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(0.05)  # a thread that has ended for Python ends for Linux a little later


def spent(meter, *works):
    user = User()
    meter.begin(user)
    in_threads(*works)
    return meter.end(user)


def test_threads_that_others_started_count(meter):
    assert spent(meter, python, digests, digests).core == pytest.approx(3 * WORK, **CLOSE)


def test_python_holds_the_lock_and_a_digest_does_not(meter):
    assert spent(meter, python, python).lock == pytest.approx(2 * WORK, rel=0.25)
    # Where other processes leave no core, the lock is found taken: then the number is only an upper bound.
    assert any(spent(ProcessMeter(), digests).lock < 0.3 * WORK for _ in range(10))


def test_a_native_thread_takes_cores_and_no_lock(meter):
    """A thread of a native library, which `threading` does not know."""
    libc, done = ctypes.CDLL(None), threading.Event()
    entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

    @entry
    def native(_):
        digests()
        done.wait()

    user, thread = User(), ctypes.c_ulong()
    meter.begin(user)
    libc.pthread_create(ctypes.byref(thread), None, native, None)
    time.sleep(4 * WORK)
    core, lock = meter.end(user)
    done.set()
    libc.pthread_join(thread, None)
    assert core == pytest.approx(WORK, **CLOSE) and lock <= core


def test_an_idle_process_spends_nothing(meter):
    user = User()
    meter.begin(user)
    time.sleep(0.3)
    assert meter.end(user) == pytest.approx((0.0, 0.0), abs=0.05)


def test_neither_a_call_of_the_model_counts_nor_the_threads_that_it_starts(meter):
    is_over = threading.Event()

    def of_pool():  # lives on, as the threads of an engine do
        digests()
        is_over.wait()

    def call():
        with meter.model_call():
            threading.Thread(target=of_pool).start()
            digests()
        digests()

    try:
        # Of the four threads, two call the model for WORK and then do other work for as long.
        assert spent(meter, call, call).core == pytest.approx(2 * WORK, **CLOSE)
    finally:
        is_over.set()


def test_a_call_under_way_does_not_count_what_its_thread_did_before(meter):
    calls, ends = threading.Event(), threading.Event()

    def call():
        digests()
        with meter.model_call():
            calls.set()
            ends.wait()

    user = User()
    meter.begin(user)
    thread = threading.Thread(target=call)
    thread.start()
    calls.wait()
    assert meter.end(user).core == pytest.approx(WORK, **CLOSE)
    ends.set()
    thread.join()


def test_users_at_once_share_what_was_spent(meter):
    one, two = User(), User()
    meter.begin(one)
    meter.begin(two)
    in_threads(python, python)
    first = meter.end(one)
    in_threads(digests)
    assert first.core + meter.end(two).core == pytest.approx(3 * WORK, **CLOSE)


def test_what_passes_between_users_does_not_count(meter):
    spent(meter, digests)
    in_threads(digests)
    assert spent(meter, digests).core == pytest.approx(WORK, **CLOSE)


def test_a_user_without_images_leaves_its_time_to_the_next(meter):
    empty, full = User(), User()
    meter.begin(empty)
    meter.begin(full)
    in_threads(digests)
    meter.forget(empty)
    assert meter.end(full).core == pytest.approx(WORK, **CLOSE)


def test_a_user_that_was_dropped_ends(meter):
    meter.begin(User())
    gc.collect()
    in_threads(digests)
    assert spent(meter, digests).core == pytest.approx(WORK, **CLOSE)


def test_loading_takes_no_lock(meter):
    def load():
        with meter.loading():
            python()

    assert spent(meter, load).lock < 0.3 * WORK


def test_the_thread_that_looks_takes_little(meter):
    user = User()
    meter.begin(user)
    time.sleep(1)
    assert meter.end(user).core < 0.05


def test_without_linux_it_measures_what_it_can(meter, monkeypatch):
    monkeypatch.setattr(process_meter, "_IS_LINUX", False)
    user = User()
    meter.begin(user)
    with meter.model_call():
        digests()
    digests()
    assert meter.end(user) == pytest.approx((WORK, 0.0), **CLOSE)


def test_a_thread_has_its_name_back_after_a_call(meter):
    def names():
        return {name for thread, name, _ in process_meter._threads() if thread == threading.get_native_id()}

    before = names()
    with meter.model_call():
        assert names() == {"model"}
    assert names() == before
