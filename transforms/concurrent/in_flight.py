"""Calls in flight: many wait for servers at once, and their results come in the order of the calls. No Beam."""

import collections
import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Sequence
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
    """Calls that one thread has in flight, one or several for an element. The process shares `concurrency` threads.

    An element may belong to a group, such as those that ask one host, and then has one call. PER_GROUP threads serve
    one group at most, or half of all. Further calls of it wait without a thread, and results come as they are done. So
    no other group waits for a slow one.
    """

    def __init__(self, concurrency: int):
        self._concurrency = concurrency
        self._elements: collections.deque[tuple[list[Future[ResultT]], int]] = collections.deque()
        self._groups = _groups(concurrency)
        self._calls = self._bytes = 0  # those that have a thread, or wait for one
        self._forget_groups()

    def _forget_groups(self) -> None:
        self._waiting: dict[str, collections.deque[tuple[Callable[[], ResultT], int]]] = {}
        self._number_waiting = 0
        self._of_groups: dict[Future[ResultT], tuple[int, str]] = {}
        self._done: queue.SimpleQueue[Future[ResultT]] = queue.SimpleQueue()

    def __len__(self) -> int:
        return len(self._elements) + len(self._of_groups) + self._number_waiting

    def has_room(self, size: int, group: str = "") -> bool:
        """Returns whether an element whose results have `size` bytes may start, or wait with its group. One may."""
        return self._number_waiting < _MOST_WAITING if group else self._may_run(size)

    def _may_run(self, size: int) -> bool:
        has_room = self._calls < self._concurrency and self._bytes + size <= MAX_WAITING_BYTES
        return not self._calls or has_room

    def start(self, calls: Sequence[Callable[[], ResultT]], size: int, group: str = "") -> None:
        """Starts the calls of an element, whose results have `size` bytes, once its group allows it. "" is no group."""
        if not group:
            self._elements.append(([_threads(self._concurrency).submit(call) for call in calls], size))
            self._add(len(calls), size)
            return
        (call,) = calls
        self._waiting.setdefault(group, collections.deque()).append((call, size))
        self._number_waiting += 1
        self._start_waiting()

    def _add(self, calls: int, size: int) -> None:
        self._calls += calls
        self._bytes += size

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
                self._add(1, size)
                future.add_done_callback(self._done.put)
            if not calls:
                del self._waiting[group]

    def next_is_done(self) -> bool:
        """Returns whether there is an element and `take` would return at once."""
        return not self._done.empty() or self._oldest_is_done()

    def _oldest_is_done(self) -> bool:
        return bool(self._elements) and all(call.done() for call in reversed(self._elements[0][0]))

    def take(self) -> list[ResultT]:
        """Waits for the oldest element, or any of a group, and returns its results or raises an error of it."""
        while True:
            if self._elements and ((not self._of_groups and not self._waiting) or self._oldest_is_done()):
                calls, size = self._elements.popleft()
                self._add(-len(calls), -size)
                return [call.result() for call in calls]
            with contextlib.suppress(queue.Empty):
                future = self._done.get(timeout=_SHORT_LOOK_SECONDS if self._elements else _LOOK_SECONDS)
                size, _ = self._of_groups.pop(future)
                self._add(-1, -size)
                self._start_waiting()
                return [future.result()]
            self._start_waiting()  # another thread's call of the group may have ended

    def forget(self) -> None:
        """Drops all calls, and cancels those that have not begun."""
        while self._elements:
            for call in self._elements.popleft()[0]:
                call.cancel()
        for future, (_, group) in self._of_groups.items():
            if future.cancel():
                self._groups.leave(group)
        self._calls = self._bytes = 0
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
