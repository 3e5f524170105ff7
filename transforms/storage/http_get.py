"""GET requests by libcurl, whose cost is a tenth of those by Google's client. No Beam, no storage.

Each thread has a handle of its own, with the connections that it keeps. libcurl works without Python's lock.
"""

import functools
import io
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple, Protocol

from google.api_core.retry import Retry, if_exception_type

from transforms.storage import errors
from transforms.storage.libcurl import certificates, pycurl

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
DELAYS: dict[str, Any] = {"initial": 0.5, "maximum": 16, "multiplier": 2}
PATIENCE = 120.0
RETRY = Retry(if_exception_type(Unfinished), timeout=PATIENCE, **DELAYS)


def get(request: Request, limit: int = sys.maxsize) -> Reply:
    """Returns the reply to a request, which is sent again if that may help. Its content ends at `limit` bytes.

    Raises:
      Refused: if the status is not 200 or 206, or 416 where the object has no such range.
      google.api_core.exceptions.RetryError: if there is no such reply in the time of RETRY.
    """
    return RETRY(_get)(request, limit)


def _get(request: Request, limit: int) -> Reply:
    if not hasattr(_of_thread, "handle"):
        _of_thread.handle = Handle()
    handle: Handle = _of_thread.handle
    handle.prepare(request, limit)
    try:
        handle.curl.perform()
    except pycurl.error as error:
        return handle.reply(*error.args)
    return handle.reply()


_of_thread = threading.local()


class Handle:
    """A handle of libcurl, for one request after the other.

    Attributes:
      curl: the handle.
    """

    def __init__(self) -> None:
        self.curl = pycurl.Curl()
        self._options: dict[int, Any] = {}

    def prepare(self, request: Request, limit: int) -> None:
        """Sets the handle up for a request. Setting an option takes time, so it is done only if they change."""
        options = {**_options(TIMEOUT), **request.options}
        if self._options != options:
            self.curl.reset()  # connections stay
            for option, value in options.items():
                self.curl.setopt(option, value)
            self._options = options
        self._url = request.url
        self._limit = limit
        self._content = content = bytearray()
        self._lines: list[bytes] = []

        def take(data: bytes) -> int:
            content.extend(data[: limit - len(content)])
            return len(data) if len(content) < limit else -1

        self.curl.setopt(pycurl.URL, request.url)
        self.curl.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in request.headers.items()])
        self.curl.setopt(pycurl.WRITEFUNCTION, take)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._lines.append)

    def reply(self, error: int = 0, message: str = "") -> Reply:
        """Returns the reply to the request, once it has ended; raises Unfinished, or as `get`.

        Args:
          error, message: libcurl's code of an error, and its text.
        """
        is_enough = error == pycurl.E_WRITE_ERROR and len(self._content) == self._limit
        if error and not is_enough:
            raise Unfinished(f"{_host(self._url)}: {message}")
        if b"\r\n" not in self._lines:  # libcurl takes a head that breaks off for a whole one
            raise Unfinished(f"{_host(self._url)}: the reply ended within its headers")
        reply = Reply(self.curl.getinfo(pycurl.RESPONSE_CODE), self._lines, bytes(self._content))
        if reply.status in _TRY_AGAIN:
            raise Unfinished(str(Refused(reply)))
        if reply.status not in (200, 206, _OUT_OF_RANGE):
            raise Refused(reply)
        return reply


@functools.lru_cache(maxsize=1)
def _options(timeout: tuple[float, float]) -> dict[int, Any]:
    connect, silence = timeout
    return {
        pycurl.NOSIGNAL: 1,
        pycurl.PATH_AS_IS: 1,  # names may have parts such as `..`
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.BUFFERSIZE: _BUFFER_BYTES,
        pycurl.CAINFO: certificates(),
        pycurl.CONNECTTIMEOUT_MS: int(connect * 1000),
        pycurl.LOW_SPEED_LIMIT: 1,  # byte a second
        pycurl.LOW_SPEED_TIME: max(1, int(silence)),
    }


def _host(url: str) -> str:
    return errors.without_credentials("/".join(url.split("/", 3)[:3]))


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
        is_part = reply.status != _OUT_OF_RANGE and total.isdigit()
        if not is_part or (not reply.content and start != int(total)):
            raise errors.StorageError(f"{self._path}: expected a part of the object from byte {start} on")
        self._part, self._start, self._size = memoryview(reply.content), start, int(total)
