"""What this process spends on feeding its model: the time of cores, and the time with Python's lock (the GIL).

All threads of the process count, whoever started them: those of Beam, those that read, and those of native libraries.
Only the model does not count, which is a device elsewhere: neither its threads, nor the threads that call it meanwhile.
"""

import contextlib
import ctypes
import functools
import os
import resource
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

# How often a thread looks whether the lock is taken. A look takes some 30 µs.
_PERIOD_SECONDS = 0.01
# The name of a thread while it calls the model. On Linux the threads that it starts inherit it, native ones too.
_MODEL = "model"
_PR_SET_NAME, _PR_GET_NAME, _NAME_BYTES = 15, 16, 16  # prctl(2)
_TASKS = Path("/proc/self/task")
_IS_LINUX = sys.platform == "linux"  # elsewhere the model counts too, and the lock does not
_TICKS = os.sysconf("SC_CLK_TCK")  # in a second


class Spent(NamedTuple):
    """Seconds of cores, and seconds for which a thread held the lock or was about to take it."""

    core: float
    lock: float


class ProcessMeter:
    """Measures while at least one user has begun and has not ended. Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        # A user that is dropped before its end, such as a DoFn that failed, ends with that.
        self._users: weakref.WeakSet[Any] = weakref.WeakSet()
        self._callers: set[int] = set()
        # Ticks by the ID of a thread. The time of one that has ended stays, as it does in that of the process.
        self._of_model: dict[int, int] = {}
        self._of_natives: dict[int, int] = {}
        self._in_calls = self._in_loads = 0.0
        self._last = (0.0, 0.0, 0.0)
        self._looks = self._taken = 0
        self._is_loading = False
        self._is_needed = threading.Event()
        self._sampler: threading.Thread | None = None

    def begin(self, user: Any) -> None:
        """Begins to measure for `user`, which can be hashed and weakly referenced. It may have begun already."""
        with self._guard:
            if not self._users:
                self._last = self._clocks()
            self._users.add(user)
            if self._sampler is None and _IS_LINUX:
                self._sampler = threading.Thread(target=self._sample, name="process-meter", daemon=True)
                self._sampler.start()
            self._is_needed.set()

    def end(self, user: Any) -> Spent:
        """Ends it, and returns what was spent since any user last ended. So the sum over all users counts once."""
        with self._guard:
            before, self._last = self._last, self._clocks()
            core, in_python, elapsed = (now - then for now, then in zip(self._last, before, strict=True))
        self.forget(user)
        # Where cores are scarce, the thread that looks gets one when another waits for the lock, so it finds it taken.
        return Spent(core, min(elapsed * self._taken / max(self._looks, 1), in_python))

    def forget(self, user: Any) -> None:
        """Ends it without an answer. What was spent is in that of the next user."""
        with self._guard:
            self._users.discard(user)
            if not self._users:
                self._is_needed.clear()

    @contextlib.contextmanager
    def model_call(self) -> Iterator[None]:
        """Leaves out the time of this thread, and all threads that it starts for as long as they live."""
        thread, name, start = threading.get_native_id(), _thread_name(), time.thread_time()
        with self._guard:
            self._callers.add(thread)
        _name_thread(_MODEL.encode())
        try:
            yield
        finally:
            _name_thread(name)
            with self._guard:
                self._in_calls += time.thread_time() - start
                self._callers.discard(thread)

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Leaves out the lock in the meantime: loading a model holds it for seconds, once in a process."""
        start, self._is_loading = time.perf_counter(), True
        try:
            yield
        finally:
            self._in_loads += time.perf_counter() - start
            self._is_loading = False

    def _clocks(self) -> tuple[float, float, float]:
        """Returns the seconds of cores, those of them of threads that run Python, and the seconds that passed."""
        python = {thread.native_id for thread in threading.enumerate()} | self._callers
        for thread, name, ticks in _threads():
            if name == _MODEL and thread not in self._callers:
                self._of_model[thread] = ticks
            elif thread not in python:
                self._of_natives[thread] = ticks
        core = time.process_time() - self._in_calls - sum(self._of_model.values()) / _TICKS
        return core, core - sum(self._of_natives.values()) / _TICKS, time.perf_counter() - self._in_loads

    def _sample(self) -> None:
        """Looks whether the lock is taken. After its sleep, a thread blocks once more only if it is."""
        blocked = _blocked()
        while self._is_needed.wait():
            time.sleep(_PERIOD_SECONDS)
            before, blocked = blocked, _blocked()
            if self._is_needed.is_set() and not self._is_loading:
                self._looks += 1
                self._taken += blocked - before > 1


METER = ProcessMeter()


def _blocked() -> int:
    """Returns how many times this thread has given up its core to wait: for a time, or for a lock."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def _threads() -> Iterator[tuple[int, str, int]]:
    """Yields the ID, the name and the ticks of a core of each thread of this process, native ones too."""
    for task in _TASKS.iterdir() if _IS_LINUX else ():
        with contextlib.suppress(OSError):  # it has ended
            beginning, _, end = (task / "stat").read_text().rpartition(")")  # proc_pid_stat(5): ID (NAME) STATE …
            yield int(task.name), beginning.partition("(")[2], sum(map(int, end.split()[11:13]))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _thread_name() -> bytes:
    name = ctypes.create_string_buffer(_NAME_BYTES)
    if _IS_LINUX:
        _libc().prctl(_PR_GET_NAME, name)
    return name.value


def _name_thread(name: bytes) -> None:
    if _IS_LINUX:
        _libc().prctl(_PR_SET_NAME, name)
