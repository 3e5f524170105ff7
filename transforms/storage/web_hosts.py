"""Turns at hosts of the web: few requests at once to each, none to one that has fallen silent, connections kept."""

import contextlib
import dataclasses
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from transforms.concurrent.in_flight import PER_GROUP
from transforms.storage.errors import StorageError

HandleT = TypeVar("HandleT")

# Requests that one process has in flight at one host. A redirect may lead more of them to a host than its own calls.
PER_HOST = PER_GROUP
# After this many requests in a row without an answer, further ones fail at once. One request tries it again after this
# many seconds, then after twice as many, and so on.
_SILENT = 3
_SILENT_SECONDS = 10.0
_MOST_SILENT_SECONDS = 600.0
# Hosts to remember. What is forgotten has no request in flight.
_MOST_HOSTS = 10_000


class SilentHost(StorageError):
    """A host that has not answered the last requests. It is not asked for a while."""


class BusyHost(StorageError):
    """A host with which no turn came in time: it is slow, or it has asked for a pause."""


@dataclasses.dataclass
class _Host:
    changed: threading.Condition
    in_flight: int = 0
    unanswered: int = 0
    silent_until: float = 0.0
    pause_until: float = 0.0


class Hosts(Generic[HandleT]):
    """The hosts to which the threads of a process connect.

    A handle keeps the connection of its last request. A request gets a handle with a connection to its host if one is
    free. So a host never has more connections than turns.
    """

    def __init__(self, new_handle: Callable[[], HandleT]):
        self._new_handle = new_handle
        self._lock = threading.Lock()
        # What the lock guards:
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._free: list[tuple[str, HandleT]] = []

    @contextlib.contextmanager
    def turn(self, name: str, end: float) -> Iterator[HandleT]:
        """Yields a handle for one request.

        Args:
          name: of the host, with its scheme and port.
          end: when the request is given up, as by `time.monotonic`.

        Raises:
          SilentHost, BusyHost: if there is no turn.
        """
        handle = self._take(name, end)
        try:
            yield handle
        finally:
            with self._lock:
                self._hosts[name].in_flight -= 1
                self._hosts[name].changed.notify()
                self._free.append((name, handle))

    def answered(self, name: str) -> None:
        """Notes that a host has answered."""
        with self._lock:
            self._host(name).unanswered = 0

    def unanswered(self, name: str) -> None:
        """Notes that a request to a host was given up without an answer."""
        with self._lock:
            host = self._host(name)
            host.unanswered += 1
            if host.unanswered >= _SILENT:
                seconds = _SILENT_SECONDS * 2 ** min(host.unanswered - _SILENT, 10)
                host.silent_until = time.monotonic() + min(seconds, _MOST_SILENT_SECONDS)
                host.changed.notify_all()

    def pause(self, name: str, seconds: float) -> None:
        """Lets the next requests to a host wait."""
        with self._lock:
            self._host(name).pause_until = time.monotonic() + seconds

    def _take(self, name: str, end: float) -> HandleT:
        with self._lock:
            while True:
                host, now = self._host(name), time.monotonic()
                if host.unanswered >= _SILENT and (now < host.silent_until or host.in_flight):
                    raise SilentHost(f"{name} has not answered the last {host.unanswered} requests")
                if host.in_flight < PER_HOST and now >= host.pause_until:
                    break
                if max(now, host.pause_until) >= end:
                    host.changed.notify()  # another may have come in time for the turn
                    raise BusyHost(f"{name} has no time for the request: it is slow, or has asked for a pause")
                host.changed.wait((host.pause_until if now < host.pause_until else end) - now)
            host.in_flight += 1
            return self._handle(name)

    def _handle(self, name: str) -> HandleT:
        if not self._free:
            return self._new_handle()
        # Else the one that was used least recently.
        connected = (index for index in range(len(self._free) - 1, -1, -1) if self._free[index][0] == name)
        return self._free.pop(next(connected, 0))[1]

    def _host(self, name: str) -> _Host:
        if name not in self._hosts:
            self._hosts[name] = _Host(threading.Condition(self._lock))
        self._hosts.move_to_end(name)
        while len(self._hosts) > _MOST_HOSTS and not next(iter(self._hosts.values())).in_flight:
            self._hosts.popitem(last=False)
        return self._hosts[name]
