"""GET requests by libcurl, whose cost is a tenth of those by Google's client. No Beam, no storage.

Each thread has a handle of its own, with the connections that it keeps. libcurl works without Python's lock.
"""

import functools
import io
import os
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple, Protocol

import certifi
from google.api_core.retry import Retry, if_exception_type

from transforms.storage import errors
from transforms.storage.libcurl import pycurl

# Seconds to connect, and to wait for the next bytes. Google's default is 60 s, with which two lost replies would take
# all the time for retries.
TIMEOUT = (10, 30)

# Bytes that libcurl hands over at once, which costs Python's lock each time.
_BUFFER_BYTES = 2**18

# Bytes per request, for an object that is read from front to end.
_PART_BYTES = 16 * 2**20

_OUT_OF_RANGE = 416
_TRY_AGAIN = {408, 429, 500, 502, 503, 504}
_MAX_REASON = 200  # characters of a server's error message
_XML_MESSAGE = re.compile(rb"<Code>([^<]*)</Code>\s*<Message>([^<\n]*)")


class Request(NamedTuple):
    """A GET request.

    Attributes:
      url: with all its parts quoted.
      headers: name → value.
      options: further options of libcurl.
    """

    url: str
    headers: Mapping[str, str] = {}
    options: Mapping[int, Any] = {}


class Reply(NamedTuple):
    """The reply to a request."""

    status: int
    lines: Sequence[bytes]  # of the header
    content: bytes

    def header(self, name: str) -> str:
        """Returns the value of the first header of this lower-case name, or "" without one."""
        pairs = (line.decode("latin-1").partition(":") for line in self.lines)
        return next((value.strip() for key, _, value in pairs if key.lower() == name), "")


class Refused(Exception):
    """A reply with another status than 200 or 206.

    Attributes:
      status_code: of the reply.
    """

    def __init__(self, reply: Reply):
        self.status_code = reply.status
        super().__init__(f"{reply.status} {_reason(reply)}".strip())


class Unfinished(Exception):
    """A request that failed, and may succeed when it is sent again."""


# Delays are random up to these seconds. If a request fails after more than two minutes, the object has failed.
RETRY = Retry(if_exception_type(Unfinished), initial=0.5, maximum=16, multiplier=2, timeout=120)


def get(request: Request, limit: int = sys.maxsize) -> Reply:
    """Returns the reply to a request, which is sent again if that may help. Its content ends at `limit` bytes.

    Raises:
      Refused: if the status is not 200 or 206, or 416 where the object has no such range.
      google.api_core.exceptions.RetryError: if there is no such reply in the time of RETRY.
    """
    try:
        return _get(request, limit)
    except Unfinished as error:
        first = [error]

    def again() -> Reply:
        if first:
            raise first.pop()  # so that the first delay and the limit of time count from here
        return _get(request, limit)

    return RETRY(again)()


def _get(request: Request, limit: int) -> Reply:
    handle = _handle(request.options)
    content = bytearray()
    lines: list[bytes] = []

    def take(data: bytes) -> int:
        content.extend(data[: limit - len(content)])
        return len(data) if len(content) < limit else -1

    handle.setopt(pycurl.URL, request.url)
    handle.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in request.headers.items()])
    handle.setopt(pycurl.WRITEFUNCTION, take)
    handle.setopt(pycurl.HEADERFUNCTION, lines.append)
    try:
        handle.perform()
    except pycurl.error as error:
        is_enough = error.args[0] == pycurl.E_WRITE_ERROR and len(content) == limit
        if not is_enough:
            raise Unfinished(f"{_host(request.url)}: {error.args[1]}") from error
    if b"\r\n" not in lines:  # libcurl takes a head that breaks off for a whole one
        raise Unfinished(f"{_host(request.url)}: the reply ended within its headers")
    reply = Reply(handle.getinfo(pycurl.RESPONSE_CODE), lines, bytes(content))
    if reply.status in _TRY_AGAIN:
        raise Unfinished(str(Refused(reply)))
    if reply.status not in (200, 206, _OUT_OF_RANGE):
        raise Refused(reply)
    return reply


def _handle(options: Mapping[int, Any]) -> pycurl.Curl:
    """Returns the handle of this thread. Setting an option takes time, so it is done only if they change."""
    of_thread, wanted = _of_thread.__dict__, {**_options(TIMEOUT), **options}
    if "handle" not in of_thread:
        of_thread["handle"] = pycurl.Curl()
    handle: pycurl.Curl = of_thread["handle"]
    if of_thread.get("options") != wanted:
        handle.reset()  # connections stay
        for option, value in wanted.items():
            handle.setopt(option, value)
        of_thread["options"] = wanted
    return handle


_of_thread = threading.local()


@functools.lru_cache(maxsize=1)
def _options(timeout: tuple[float, float]) -> dict[int, Any]:
    connect, silence = timeout
    return {
        pycurl.NOSIGNAL: 1,
        pycurl.PATH_AS_IS: 1,  # names may have parts such as `..`
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.BUFFERSIZE: _BUFFER_BYTES,
        pycurl.CAINFO: _certificates(),
        pycurl.CONNECTTIMEOUT_MS: int(connect * 1000),
        pycurl.LOW_SPEED_LIMIT: 1,  # byte a second
        pycurl.LOW_SPEED_TIME: max(1, int(silence)),
    }


@functools.cache
def _certificates() -> str:
    """Returns the file of trusted certificates, found as `requests` does."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where()


def _host(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


def _reason(reply: Reply) -> str:
    """Returns the front of a server's message, in one line. Of XML only this, because more may name a key."""
    in_xml = _XML_MESSAGE.search(reply.content)
    message = b": ".join(in_xml.groups()) if in_xml else reply.content
    return " ".join(message[:_MAX_REASON].decode(errors="replace").split())


class _ReadPart(Protocol):
    def __call__(self, headers: Mapping[str, str]) -> Reply: ...


def in_parts(read_part: _ReadPart, path: str) -> BinaryIO:
    """Returns an object to be read by one request for each 16 MiB, from front to end or from where `seek` leads.

    Args:
      read_part: returns the reply to a request with the headers that it is given.
      path: for messages.
    """
    return io.BufferedReader(_Parts(read_part, path), 2**18)


class _Parts(io.RawIOBase):
    def __init__(self, read_part: _ReadPart, path: str):
        self._read_part = read_part
        self._path = path
        self._part = memoryview(b"")
        self._start = 0  # of the part
        self._at = 0
        self._size: int | None = None  # of the object

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END and self._size is None:
            self._read()
        origins = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size or 0}
        self._at = max(0, origins[whence] + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        is_there = self._start <= self._at < self._start + len(self._part)
        if not is_there and (self._size is None or self._at < self._size):
            self._read()
        taken = self._part[self._at - self._start :][: len(buffer)] if self._at >= self._start else b""
        buffer[: len(taken)] = taken
        self._at += len(taken)
        return len(taken)

    def _read(self) -> None:
        """Reads the part that begins at the position."""
        reply = self._read_part({"Range": f"bytes={self._at}-{self._at + _PART_BYTES - 1}"})
        total = reply.header("content-range").rpartition("/")[2]
        start, is_first = self._at, self._size is None
        if reply.status == _OUT_OF_RANGE and is_first and (not start or total.isdigit()):
            self._size = int(total) if start else 0  # an empty object has no bytes to ask for
            return
        if reply.status == 200 and is_first:  # a server without ranges sends the whole
            start, total = 0, str(len(reply.content))
        if not total.isdigit() or (not reply.content and start != int(total)):
            raise errors.StorageError(f"{self._path}: expected a part of the object from byte {start} on")
        self._part, self._start, self._size = memoryview(reply.content), start, int(total)
