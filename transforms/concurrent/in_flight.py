"""Calls in flight: many wait for servers at once, and their results come in the order of the calls. No Beam."""

import collections
import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

ResultT = TypeVar("ResultT")

# If each request waits 20 ms, one request at a time reads 40 images a second. 16 at once read 270, measured with an
# emulator and a proxy on the same two cores. Each further request in flight costs memory.
CONCURRENCY_DEFAULT = 16
CONCURRENCY_MAX = 256

# The most bytes of results that wait to be taken. A single result may be larger.
MAX_WAITING_BYTES = 64 * 2**20

# Calls of one group that run at once.
PER_GROUP = 8

# The most calls of groups that wait without a thread. A thread looks so often whether one may start, and, if it has
# other calls too, whether the oldest of them is done.
_MOST_WAITING = 1024
_LOOK_SECONDS, _SHORT_LOOK_SECONDS = 0.1, 0.005


def check_concurrency(concurrency: int) -> None:
    """Raises ValueError unless `concurrency` is from 1 to CONCURRENCY_MAX."""
    if not 1 <= concurrency <= CONCURRENCY_MAX:
        raise ValueError(f"read_concurrency={concurrency!r}: expected from 1 to {CONCURRENCY_MAX} requests in flight")


class InFlight(Generic[ResultT]):
    """The calls that one thread has in flight. All such calls of the process share `concurrency` threads.

    A call may belong to a group, such as those that ask one host. PER_GROUP threads serve one group at most, or
    half of all. Further calls of it wait without a thread, and results come as they are done. So no other group waits
    for a slow one.
    """

    def __init__(self, concurrency: int):
        self._concurrency = concurrency
        self._calls: collections.deque[tuple[Future[ResultT], int]] = collections.deque()
        self._groups = _groups(concurrency)
        self._forget_groups()

    def _forget_groups(self) -> None:
        self._waiting: dict[str, collections.deque[tuple[Callable[[], ResultT], int]]] = {}
        self._number_waiting = 0
        self._of_groups: dict[Future[ResultT], tuple[int, str]] = {}
        self._done: queue.SimpleQueue[Future[ResultT]] = queue.SimpleQueue()

    def __len__(self) -> int:
        return len(self._calls) + len(self._of_groups) + self._number_waiting

    def has_room(self, size: int, group: str = "") -> bool:
        """Returns whether a call whose result has `size` bytes may start, or wait with its group. A single call may."""
        return self._number_waiting < _MOST_WAITING if group else self._may_run(size)

    def _may_run(self, size: int) -> bool:
        sizes = [size for _, size in self._calls] + [size for size, _ in self._of_groups.values()]
        return not sizes or (len(sizes) < self._concurrency and sum(sizes) + size <= MAX_WAITING_BYTES)

    def start(self, call: Callable[[], ResultT], size: int, group: str = "") -> None:
        """Starts a call whose result has `size` bytes, once its group allows it. "" is no group."""
        if not group:
            self._calls.append((_threads(self._concurrency).submit(call), size))
            return
        self._waiting.setdefault(group, collections.deque()).append((call, size))
        self._number_waiting += 1
        self._start_waiting()

    def _start_waiting(self) -> None:
        for group in list(self._waiting):
            calls = self._waiting[group]
            while calls and self._groups.enter(group):
                if not self._may_run(calls[0][1]):
                    self._groups.leave(group)
                    return
                call, size = calls.popleft()
                self._number_waiting -= 1
                future = _threads(self._concurrency).submit(self._groups.leave_after, group, call)
                self._of_groups[future] = size, group
                future.add_done_callback(self._done.put)
            if not calls:
                del self._waiting[group]

    def next_is_done(self) -> bool:
        """Returns whether there is a call and `take` would return at once."""
        return not self._done.empty() or (bool(self._calls) and self._calls[0][0].done())

    def take(self) -> ResultT:
        """Waits for the oldest call, or any of a group, and returns its result or raises its error."""
        while True:
            if self._calls and ((not self._of_groups and not self._waiting) or self._calls[0][0].done()):
                future, _ = self._calls.popleft()
                return future.result()
            with contextlib.suppress(queue.Empty):
                future = self._done.get(timeout=_SHORT_LOOK_SECONDS if self._calls else _LOOK_SECONDS)
                del self._of_groups[future]
                self._start_waiting()
                return future.result()
            self._start_waiting()  # another thread's call of the group may have ended

    def forget(self) -> None:
        """Drops all calls, and cancels those that have not begun."""
        while self._calls:
            self._calls.popleft()[0].cancel()
        for future, (_, group) in self._of_groups.items():
            if future.cancel():
                self._groups.leave(group)
        self._forget_groups()


class _Groups:
    """How many calls of each group have a thread."""

    def __init__(self, most: int):
        self._most = most
        self._lock = threading.Lock()
        self._running: collections.Counter[str] = collections.Counter()

    def enter(self, group: str) -> bool:
        """Returns whether a call of the group may start, and then counts it."""
        with self._lock:
            if self._running[group] >= self._most:
                return False
            self._running[group] += 1
            return True

    def leave(self, group: str) -> None:
        with self._lock:
            self._running[group] -= 1
            if not self._running[group]:
                del self._running[group]

    def leave_after(self, group: str, call: Callable[[], ResultT]) -> ResultT:
        try:
            return call()
        finally:
            self.leave(group)


@functools.cache
def _groups(concurrency: int) -> _Groups:
    return _Groups(max(1, min(PER_GROUP, concurrency // 2)))


@functools.cache
def _threads(concurrency: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(concurrency, thread_name_prefix="in-flight")
