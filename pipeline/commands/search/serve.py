"""A page on this machine that searches: it takes an image, and shows its neighbours.

It listens on 127.0.0.1. Pages of other sites in the browser get no answer: the server refuses requests for another
host, from another origin or from another site. It serves pictures by their row in the index, never by path.

It answers a limited number of requests at once, and the others wait. A browser that sends nothing loses its place.
"""

import contextlib
import http.server
import json
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pipeline.commands.search import names, page, query, thumbnails
from pipeline.commands.search.index import Index
from pipeline.commands.search.nearest import Neighbour
from pipeline.runners.console import write_line
from transforms.concurrent.cores import usable_cores
from transforms.elements import keys
from transforms.elements.one_line import one_line
from transforms.storage.context import DEFAULT_STORAGE, Storage

_HOST = "127.0.0.1"
_MAX_IMAGE_BYTES = 64 * 2**20
_MAX_DIGITS = 18  # of a number in a request
_NEIGHBOURS = 60
# Requests that are received and answered at once, each in a thread. As many others wait for one of these places.
PLACES = 64
_WAITING = 128
# Seconds without a byte from a browser, and for a whole request to arrive.
_TIMEOUT = 30
_RECEIVE_SECONDS = 120.0
_POLL_SECONDS = 0.5
_CHUNK_BYTES = 2**16


def serve(shards: Sequence[str], port: int, handle: str | None, storage: Storage) -> str:
    """Serves the page until the process is interrupted. Returns a line for the screen.

    Args:
      shards: as `vector_shards.paths` returns them.
      port: 0 for one that is free.
      handle, storage: see query.embedder.

    Raises:
      ValueError: if the vectors cannot be read, their model is another one now, or the port cannot be had.
    """
    index = Index(shards)
    embed = query.embedder(shards, index.digest, handle, storage)
    try:
        server = Server(port, index, embed, storage)
    except OSError as error:
        raise ValueError(f"--port {port}: {error.strerror}: expected one that is free") from error
    with server, contextlib.suppress(KeyboardInterrupt):
        write_line(sys.stdout, f"{server.url} shows {len(index):,} images; Ctrl-C ends it")
        server.serve_forever()
    return "ended"


class Server(http.server.ThreadingHTTPServer):
    """Answers the requests of the page.

    Attributes:
      url: of the page.
      index, embed, storage: what its requests need.
    """

    daemon_threads = True
    request_queue_size = _WAITING

    def __init__(self, port: int, index: Index, embed: query.Embedder, storage: Storage = DEFAULT_STORAGE):
        super().__init__((_HOST, port), _Handler)
        self.index, self.embed, self.storage = index, embed, storage
        self.hosts = {f"{name}:{self.server_port}" for name in (_HOST, "localhost")}
        self.url = f"http://{_HOST}:{self.server_port}"
        self._places = threading.Semaphore(PLACES)
        self._searches = threading.Semaphore(usable_cores())
        self._receiving: dict[socket.socket, float] = {}  # since when

    def process_request(self, request: Any, client_address: Any) -> None:
        """Waits for a place, and answers the request in a thread of its own."""
        while not self._places.acquire(timeout=_POLL_SECONDS):
            self.service_actions()
        self._receiving[request] = time.monotonic()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answers the request, and frees its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.received(request)
            self._places.release()

    def received(self, request: socket.socket) -> None:
        """Notes that a request has arrived, so that its answer may take any time."""
        self._receiving.pop(request, None)

    def service_actions(self) -> None:
        """Ends the connections whose request takes too long to arrive. `serve_forever` calls it now and then."""
        overdue = time.monotonic() - _RECEIVE_SECONDS
        for request, since in list(self._receiving.items()):
            if since < overdue:
                with contextlib.suppress(OSError):  # it has just ended
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Prints the error of a request, unless its browser has gone: the page drops requests that are outdated."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def neighbours(self, row: int | None) -> dict[str, Any]:
        """Returns the neighbours of a row; without one, some images of the runs.

        Raises:
          IndexError: if there is no such row.
        """
        if row is None:
            rows = self.index.sample(_NEIGHBOURS)
            return {"message": f"{len(self.index):,} images", "neighbours": [self._described(row) for row in rows]}
        self.index.key(row)
        near = self.index.nearest(self.index.vector(row), _NEIGHBOURS + 1)
        return self._answer([each for each in near if each.key != row][:_NEIGHBOURS])

    def search(self, encoded: bytes) -> dict[str, Any]:
        """Returns the neighbours of an encoded image. Raises ValueError if it cannot be decoded."""
        with self._searches:
            return self._answer(self.index.nearest(self.embed(encoded), _NEIGHBOURS))

    def _answer(self, near: Sequence[Neighbour[int]]) -> dict[str, Any]:
        described = [self._described(each.key, each.cosine) for each in near]
        return {"message": f"the nearest of {len(self.index):,} images", "neighbours": described}

    def _described(self, row: int, cosine: float | None = None) -> dict[str, Any]:
        key = self.index.key(row)
        return {"row": row, "key": keys.name(key), "name": names.last_part(key), "cosine": cosine}


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    timeout = _TIMEOUT
    _is_read = False  # the body

    def do_GET(self) -> None:
        if not self._is_own():
            return
        self.server.received(self.connection)
        path, _, text = self.path.partition("?")
        rows = urllib.parse.parse_qs(text).get("row", [])
        row = int(rows[0]) if rows and rows[0].isdecimal() and len(rows[0]) <= _MAX_DIGITS else None
        try:
            if path == "/":
                self._send("text/html; charset=utf-8", page.searching(len(self.server.index)).encode())
            elif path == "/neighbours":
                self._send_json(self.server.neighbours(row))
            elif path == "/thumbnail" and row is not None:
                self._send_thumbnail(row)
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
        except IndexError as error:
            self._refuse(HTTPStatus.NOT_FOUND, str(error))

    def do_POST(self) -> None:
        if not self._is_own():
            return
        length = self._length()
        if self.path != "/search":
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
        elif length is None or length > _MAX_IMAGE_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected an image of at most {_MAX_IMAGE_BYTES} bytes")
        elif length == 0:
            self._refuse(HTTPStatus.BAD_REQUEST, "the file is empty")
        else:
            encoded = self.rfile.read(length)
            self._is_read = True
            self.server.received(self.connection)
            if len(encoded) < length:  # the browser has gone
                return
            try:
                answer = self.server.search(encoded)
            except ValueError as error:
                self._refuse(HTTPStatus.BAD_REQUEST, one_line(error))
            else:
                self._send_json(answer)

    def _length(self) -> int | None:
        """Returns the bytes of a request's body; None if its header is missing or invalid."""
        length = self.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() and len(length) <= _MAX_DIGITS else None

    def log_message(self, *_: Any) -> None:
        """Prints nothing: a page makes a request for each picture."""

    def _is_own(self) -> bool:
        """Returns whether a request comes from the page itself, and refuses it otherwise."""
        origin = self.headers.get("Origin")
        is_own = (
            self.headers.get("Host") in self.server.hosts
            and (origin is None or origin.removeprefix("http://") in self.server.hosts)
            and self.headers.get("Sec-Fetch-Site") in (None, "none", "same-origin")
        )
        if not is_own:
            self._refuse(HTTPStatus.FORBIDDEN, f"expected a request of {self.server.url} itself")
        return is_own

    def _send_thumbnail(self, row: int) -> None:
        index, thumbnail = self.server.index, None
        if index.is_file(row):
            thumbnail = thumbnails.jpeg(index.key(row), self.server.storage)
        if thumbnail is None:
            self._refuse(HTTPStatus.NOT_FOUND, "the image cannot be read")
        else:
            self._send("image/jpeg", thumbnail)

    def _send_json(self, answer: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send("application/json", json.dumps(answer).encode(), status)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._send_json({"error": reason}, status)
        # A browser reads the answer only after it has sent the whole request. An earlier close would lose the answer.
        left = 0 if self._is_read else min(self._length() or 0, _MAX_IMAGE_BYTES)
        while left > 0 and (chunk := self.rfile.read1(min(left, _CHUNK_BYTES))):
            left -= len(chunk)

    def _send(self, kind: str, content: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Content-Security-Policy": page.POLICY,
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
