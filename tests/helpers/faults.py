"""A fault proxy: a server in front of a real one that fails requests as clouds do, seeded, and notes each of them.

Clients are pointed at `Proxy.url` and reach the target through it. Its `Host` is the target's own, so that what the
target keeps (the emulator's `mediaLink`) never names the proxy, and links to the target in replies name the proxy.
"""

import collections
import contextlib
import dataclasses
import email.message
import hashlib
import http.client
import http.server
import json
import os
import random
import re
import socket
import socketserver
import struct
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any, NamedTuple

_BLOCK = 1 << 16
_SMALL = 1 << 20  # bytes of a body that is compared; larger ones go through as they come
# What servers and clients make up anew in each run: generations, and the ids of jobs, uploads and staging tables.
_MADE_UP = re.compile(r"[0-9a-f]{8,}(?:-[0-9a-f]{4,})*|[0-9]{6,}")
_HOP_BY_HOP = {"connection", "expect", "host", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"}
# As Google's JSON APIs word them: https://cloud.google.com/bigquery/docs/error-messages
_REFUSALS = {
    "unavailable": (503, "backendError", "We encountered an internal error. Please try again."),
    "too_many": (429, "rateLimitExceeded", "Exceeded rate limits: too many requests."),
    "forbidden": (403, "forbidden", "The caller does not have storage.objects.get access."),
    "repeated": (409, "duplicate", "Already Exists: the job of this id."),
    "unmet": (412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold."),
}


@dataclasses.dataclass(frozen=True)
class Faults:
    """Probabilities of the faults of one request; what is left of 1 is an honest reply.

    Attributes:
      unavailable: 503, and the target never sees the request.
      too_many: 429, and the target never sees the request.
      reset: the connection is reset, and the target never sees the request.
      lost_reply: the target does what was asked, then the connection is reset before a byte of the reply.
      hang: nothing for a while, then the connection is closed, and the target never sees the request.
      truncated: the target does what was asked, and the connection is reset after half of the reply's body.
    """

    unavailable: float = 0.0
    too_many: float = 0.0
    reset: float = 0.0
    lost_reply: float = 0.0
    hang: float = 0.0
    truncated: float = 0.0

    def __post_init__(self):
        rates = dataclasses.astuple(self)
        if min(rates) < 0 or sum(rates) > 1 + 1e-9:
            raise ValueError(f"rates={self!r}: expected probabilities of at least 0, and at most 1 together")


class Exchange(NamedTuple):
    """A request, its path with the query, and what became of it: the target's status, or the name of a fault."""

    method: str
    path: str
    outcome: int | str


class Proxy:
    """A running proxy: where it listens, and what it saw, up to now."""

    def __init__(self, url: str):
        self.url = url
        self._lock = threading.Lock()
        self._log: list[Exchange] = []

    @property
    def log(self) -> list[Exchange]:
        """Every exchange; one is here before its client knows the outcome."""
        with self._lock:
            return list(self._log)

    @property
    def requests(self) -> int:
        return len(self.log)

    @property
    def faults(self) -> collections.Counter[str]:
        """How many requests met which fault."""
        return collections.Counter(each.outcome for each in self.log if isinstance(each.outcome, str))

    def _note(self, method: str, path: str, outcome: int | str) -> None:
        with self._lock:
            self._log.append(Exchange(method, path, outcome))


class Decisions:
    """Which fault a request meets: a function of the seed, the request and how often it was asked before.

    Threads change the order of requests, and so must not change the decisions: what one request meets depends on no
    other. Requests are equal that have one method, path and query. Ids that are made up anew in each run do not change
    what is drawn, so that a run meets about as many faults as the last. Where several callers post to one path at once,
    as jobs and uploads are, their bodies tell who asks again: a caller's row of faults ends whatever the others meet.

    Args:
      seed: of all decisions.
      rates: how often which fault.
      in_a_row: the longest row of faults that one request meets, so that its retries end.
      paths: a regular expression for `METHOD /path?query`; where it is not found there are no faults.
    """

    def __init__(self, seed: int, rates: Faults, in_a_row: int = 3, paths: str | None = None):
        self._seed = seed
        self._rates = dataclasses.asdict(rates)
        self._in_a_row = in_a_row
        self._paths = re.compile(paths or "")
        self._lock = threading.Lock()
        self._asked: collections.Counter[str] = collections.Counter()
        self._row: collections.Counter[object] = collections.Counter()

    def next(self, method: str, path: str, body: bytes = b"") -> str | None:
        """Returns the fault of this request, the next of its kind; None for an honest reply."""
        request = f"{method} {path}"
        if not self._paths.search(request):
            return None
        rows = request, (request, body and hashlib.sha256(body).digest())
        kind = _MADE_UP.sub("*", request)
        with self._lock:
            self._asked[kind] += 1
            may_fail = all(self._row[row] < self._in_a_row for row in rows)
            fault = self._drawn(f"{self._seed} {self._asked[kind]} {kind}") if may_fail else None
            for row in rows:
                self._row[row] = self._row[row] + 1 if fault else 0
        return fault

    def _drawn(self, seed: str) -> str | None:
        drawn = random.Random(seed).random()
        for fault, rate in self._rates.items():
            if drawn < rate:
                return fault
            drawn -= rate
        return None


class Hold:
    """Keeps requests back at one point, so that a test knows where a job stands and lets it go on, or kills it there.

    Args:
      pattern: a regular expression for `METHOD /path?query body`; the requests in which it is found are held.
      passing: how many of these pass before the first is held.

    Attributes:
      reached: set when the first request is held.
      released: set it, and all of them go on. Where the proxy ends first they never reach the target.
    """

    def __init__(self, pattern: str, passing: int = 0):
        self.reached = threading.Event()
        self.released = threading.Event()
        self._pattern = re.compile(pattern.encode())
        self._left = passing
        self._lock = threading.Lock()

    def takes(self, method: str, path: str, body: bytes) -> bool:
        """Returns whether this request, the next of its kind, is held."""
        if not self._pattern.search(f"{method} {path} ".encode() + body):
            return False
        with self._lock:
            self._left -= 1
            return self._left < 0


@contextlib.contextmanager
def fault_proxy(
    target_url: str,
    *,
    seed: int = 0,
    rates: Faults | None = None,
    in_a_row: int = 3,
    paths: str | None = None,
    hang_seconds: float = 5.0,
    latency: float = 0.0,
    hold: Hold | None = None,
    decisions: Any = None,
    preconditions: bool = False,
    keep_host: bool = False,
) -> Iterator[Proxy]:
    """Runs a proxy in front of `target_url`, on a free port of 127.0.0.1, until the block ends.

    Args:
      target_url: `http://HOST:PORT` of a server.
      seed, rates, in_a_row, paths: of the decisions, see `Decisions`; without rates the proxy only takes notes.
      hang_seconds: how long a request hangs that hangs.
      latency: seconds by which each request is late.
      hold: which requests are kept back.
      decisions: an object that decides in the place of `Decisions`.
      preconditions: whether uploads and deletes with `ifGenerationMatch` meet 412 unless the object is of that
        generation. Cloud Storage does so, and the emulator does not look at it.
      keep_host: whether the target sees the `Host` of the proxy. Clients of S3 sign it.
    """
    target = urllib.parse.urlsplit(target_url)
    if target.scheme != "http" or not target.port or target.path.strip("/"):
        raise ValueError(f"{target_url=!r}: expected 'http://HOST:PORT'")
    decisions = decisions or Decisions(seed, rates or Faults(), in_a_row, paths)
    server = _Server(target.netloc, decisions, hang_seconds, latency, hold, preconditions, keep_host)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="fault-proxy")
    thread.start()
    try:
        yield server.proxy
    finally:
        server.shutdown()
        server.end_connections()
        server.server_close()
        thread.join()


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        target: str,
        decisions: Decisions,
        hang_seconds: float,
        latency: float,
        hold: Hold | None,
        preconditions: bool,
        keep_host: bool,
    ):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = Proxy(f"http://127.0.0.1:{self.server_port}")
        self.target = target
        self.decisions = decisions
        self.hang_seconds = hang_seconds
        self.latency = latency
        self.hold = hold
        self.preconditions = preconditions
        self.keep_host = keep_host
        self.changing = threading.Lock()
        self.lost: dict[str | None, tuple[int, list[tuple[str, str]], bytes]] = {}
        self.closing = threading.Event()
        self._open: set[socket.socket] = set()

    def get_request(self):
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request):
        self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        """Ends the connections that clients keep alive: they would go on to be served after the block."""
        self.closing.set()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        """Silent where the client or the target went away in mid-exchange: the other learns it by its connection."""
        if not isinstance(sys.exception(), OSError | http.client.HTTPException):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes: with Nagle's algorithm each small reply would wait 40 ms for an ACK.
    disable_nagle_algorithm = True

    def _exchange(self) -> None:
        time.sleep(self.server.latency)
        self._chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        self._length = int(self.headers.get("Content-Length", 0))
        self._small = b"".join(self._blocks(self._length)) if not self._chunked and self._length <= _SMALL else b""
        hold = self.server.hold
        if hold and hold.takes(self.command, self.path, self._small) and not self._released(hold):
            self.close_connection = True
            return
        fault = self.server.decisions.next(self.command, self.path, self._small)
        if fault in _REFUSALS:
            self._refuse(fault)
        elif fault == "reset":
            self._note(fault)
            self._reset()
        elif fault == "hang":
            self._note(fault)
            self.server.closing.wait(self.server.hang_seconds)
            self.close_connection = True
        else:
            self._forward_if_met(fault)

    do_DELETE = do_GET = do_HEAD = do_OPTIONS = do_PATCH = do_POST = do_PUT = _exchange  # noqa: N815

    def log_message(self, *args) -> None:
        """Nothing: `Proxy.log` has it."""

    def _released(self, hold: Hold) -> bool:
        """Returns whether a request goes on, once that is known."""
        hold.reached.set()
        while not hold.released.wait(0.05):
            if self.server.closing.is_set():
                return False
        return True

    def _note(self, outcome: int | str) -> None:
        self.server.proxy._note(self.command, self.path, outcome)

    def _refuse(self, fault: str) -> None:
        for _ in self._body():  # read, or what is left of it would be taken for the next request
            pass
        self._note(fault)
        code, reason, message = _REFUSALS[fault]
        errors = [{"message": message, "domain": "global", "reason": reason}]
        self._reply_whole(
            code,
            [("Content-Type", "application/json; charset=UTF-8")],
            json.dumps({"error": {"code": code, "message": message, "errors": errors}}).encode(),
        )

    def _reset(self) -> None:
        """Closes the connection with RST, at once, and not, as it would else be, with FIN when all its files are."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def _forward_if_met(self, fault: str | None) -> None:
        """Forwards a request, unless it is a repetition or names a generation that its object does not have."""
        if lost := self.server.lost.get(self._recognized()):
            self._reply_to_repetition(*lost)
            return
        url = urllib.parse.urlsplit(self.path)
        expected = dict(urllib.parse.parse_qsl(url.query)).get("ifGenerationMatch")
        if not self.server.preconditions or expected is None or self.command not in ("POST", "DELETE"):
            self._forward(fault)
            return
        path = url.path.removeprefix("/upload")
        if self.command == "POST":  # the name is in the metadata, the first of two parts
            (name,) = re.findall(rb'"name": "([^"]*)"', self._small)
            path += "/" + urllib.parse.quote(name.decode(), safe="")
        with self.server.changing:  # until the change is made
            if self._generation(path) == expected:
                self._forward(fault)
            else:
                self._refuse("unmet")

    def _recognized(self) -> str | None:
        """Returns the name by which the services, unlike their emulators, recognize a request that is made again."""
        if self.command == "PUT" and "upload_id=" in self.path:
            return self.path
        if self.command == "POST" and urllib.parse.urlsplit(self.path).path.endswith("/jobs"):
            job = re.search(rb'"jobId": ?"([^"]*)"', self._small)
            return job[1].decode() if job else None
        return None

    def _reply_to_repetition(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Replies that an upload is complete, or that a job of that id exists."""
        if self.command == "POST":
            self._refuse("repeated")
            return
        self._note(status)
        self._reply_whole(status, headers, body)

    def _generation(self, path: str) -> str:
        """Returns the generation of an object in the target, "0" if there is none."""
        target = http.client.HTTPConnection(self.server.target, timeout=60)
        with contextlib.closing(target):
            target.request("GET", path)
            reply = target.getresponse()
            return str(json.loads(reply.read())["generation"]) if reply.status == 200 else "0"

    def _forward(self, fault: str | None) -> None:
        target = http.client.HTTPConnection(self.server.target, timeout=600)
        with contextlib.closing(target):
            try:
                reply = self._asked(target)
            except (OSError, http.client.HTTPException) as error:
                self._note(502)
                self._reply_whole(502, [("Content-Type", "text/plain")], f"the target is gone: {error!r}".encode())
                return
            if fault == "lost_reply":
                body = reply.read()
                if reply.status < 400 and (request := self._recognized()):
                    self.server.lost[request] = reply.status, _end_to_end(reply.headers), body
                self._note("lost_reply")
                self._reset()
            else:
                self._note(fault or reply.status)
                self._reply(reply, fault == "truncated")

    def _asked(self, target: http.client.HTTPConnection) -> http.client.HTTPResponse:
        target.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        target.putheader("Host", self.headers["Host"] if self.server.keep_host else self.server.target)
        for name, value in _end_to_end(self.headers):
            target.putheader(name, value)
        if self._chunked:
            target.putheader("Transfer-Encoding", "chunked")
        body = self._body()
        try:
            target.endheaders(body, encode_chunked=self._chunked)
        except ConnectionError:
            if target.sock is None:
                raise
            for _ in body:  # some servers say no before they have read everything, and close
                pass
        return target.getresponse()

    def _body(self) -> Iterator[bytes]:
        if self._chunked:
            while left := int(self.rfile.readline().split(b";")[0], 16):
                yield from self._blocks(left)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass  # trailers
        elif self._length <= _SMALL:
            yield self._small
        else:
            yield from self._blocks(self._length)

    def _blocks(self, left: int) -> Iterator[bytes]:
        while left:
            block = self.rfile.read(min(left, _BLOCK))
            if not block:
                raise ConnectionError(f"the client went away {left} bytes before the end of its request")
            left -= len(block)
            yield block

    def _reply(self, reply: http.client.HTTPResponse, truncated: bool) -> None:
        here, there = self.server.proxy.url, f"http://{self.server.target}"
        headers = [
            (name, value.replace(there, here) if name.lower() == "location" else value)
            for name, value in _end_to_end(reply.headers)
        ]
        if truncated:
            if body := reply.read():
                self._reply_head(reply.status, [*_without_length(headers), ("Content-Length", str(len(body)))])
                self.wfile.write(body[: len(body) // 2])
            self._reset()
        elif self.command != "HEAD" and self._has_links(reply):
            body = reply.read().replace(there.encode(), here.encode())
            self._reply_whole(reply.status, headers, body)
        elif reply.length is None:  # which it is not where there is no body
            self._reply_head(reply.status, [*headers, ("Transfer-Encoding", "chunked")])
            while block := reply.read1(_BLOCK):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self._reply_head(reply.status, headers)
            while block := reply.read1(_BLOCK):
                self.wfile.write(block)
            if reply.length:
                raise ConnectionError(f"the target went away {reply.length} bytes before the end of its reply")

    def _has_links(self, reply: http.client.HTTPResponse) -> bool:
        """Whether links in the reply have to lead to the proxy: in what APIs say, and not in what users stored."""
        says = reply.headers.get_content_type() in ("application/json", "multipart/mixed")
        return says and "Content-Encoding" not in reply.headers and "alt=media" not in self.path

    def _reply_whole(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self._reply_head(status, [*_without_length(headers), ("Content-Length", str(len(body)))])
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reply_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()


def _end_to_end(headers: email.message.Message) -> list[tuple[str, str]]:
    """The headers that are passed on; the others are of one connection alone, RFC 9110 section 7.6.1."""
    return [(name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP]


def _without_length(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() != "content-length"]
