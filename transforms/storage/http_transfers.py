"""Many GET requests at once, all in one thread. A thread for each would take twice as much of a core. No Beam.

They are tried once. Who needs more patience calls `http_get.get`.
"""

import collections
import functools
import math
import select
import socket
import threading
import time
from concurrent.futures import Future
from typing import Any

import pycurl

from transforms.storage.http_get import Handle, Reply, Request

_MASKS = {
    pycurl.POLL_IN: select.POLLIN,
    pycurl.POLL_OUT: select.POLLOUT,
    pycurl.POLL_INOUT: select.POLLIN | select.POLLOUT,
}


def start(request: Request, limit: int, concurrency: int) -> Future[Reply]:
    """Sends a request, and returns its reply to come. The reply has the errors of `Handle.reply`.

    Args:
      request: see `Request`.
      limit: bytes at which the content ends.
      concurrency: requests that this process has in flight at most. Further ones wait.
    """
    return _transfers(concurrency).start(request, limit)


@functools.cache
def _transfers(concurrency: int) -> "_Transfers":
    return _Transfers(concurrency)


class _Transfers:
    def __init__(self, concurrency: int):
        self._waiting: collections.deque[tuple[Request, int, Future[Reply]]] = collections.deque()
        self._idle = [Handle() for _ in range(concurrency)]
        self._active: dict[pycurl.Curl, tuple[Handle, Future[Reply]]] = {}
        self._deadline: float | None = None  # of libcurl's timer, in seconds of the monotonic clock
        self._poll = select.poll()
        self._wake, self._woken = socket.socketpair()
        self._is_awake = False
        self._poll.register(self._woken, select.POLLIN)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, concurrency)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        threading.Thread(target=self._run, name="transfers", daemon=True).start()

    def start(self, request: Request, limit: int) -> Future[Reply]:
        future: Future[Reply] = Future()
        self._waiting.append((request, limit, future))
        if not self._is_awake:  # two threads may both wake it, which costs nothing
            self._is_awake = True
            self._wake.send(b"1")
        return future

    def _run(self) -> None:
        while True:
            self._begin()
            for descriptor, events in self._poll.poll(self._timeout()):
                if descriptor == self._woken.fileno():
                    self._is_awake = False
                    self._woken.recv(64)
                else:
                    mask = pycurl.CSELECT_IN if events & ~select.POLLOUT else 0  # errors too
                    mask |= pycurl.CSELECT_OUT if events & select.POLLOUT else 0
                    self._multi.socket_action(descriptor, mask)
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._deadline = None
                self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            self._end()

    def _begin(self) -> None:
        while self._idle and self._waiting:
            request, limit, future = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            handle = self._idle.pop()
            try:
                handle.prepare(request, limit)
                self._multi.add_handle(handle.curl)
            except Exception as error:  # noqa: BLE001 - who waits for the reply raises it
                self._idle.append(handle)
                future.set_exception(error)
            else:
                self._active[handle.curl] = handle, future

    def _end(self) -> None:
        left = 1
        while left:
            left, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self._end_one(curl)
            for curl, *error in failed:
                self._end_one(curl, *error)

    def _end_one(self, curl: pycurl.Curl, *error: Any) -> None:
        self._multi.remove_handle(curl)
        handle, future = self._active.pop(curl)
        try:
            reply = handle.reply(*error)
        except Exception as failure:  # noqa: BLE001
            future.set_exception(failure)
        else:
            future.set_result(reply)
        self._idle.append(handle)

    def _timeout(self) -> int | None:
        """Returns milliseconds, rounded up."""
        return None if self._deadline is None else max(0, math.ceil(1000 * (self._deadline - time.monotonic())))

    def _set_timer(self, milliseconds: int) -> None:
        self._deadline = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def _watch(self, event: int, descriptor: int, multi: Any, data: Any) -> None:
        if event == pycurl.POLL_REMOVE:
            self._poll.unregister(descriptor)
        else:
            self._poll.register(descriptor, _MASKS[event])
