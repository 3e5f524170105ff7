"""A web server on this machine that does what a test says with each path, also what no server should."""

import contextlib
import dataclasses
import datetime
import gzip
import ipaddress
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Answer = Callable[[socket.socket], object]


@dataclasses.dataclass(frozen=True)
class Request:
    """What the server was asked. The names of headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]


class WebServer(socketserver.ThreadingTCPServer):
    """Serves each path by its answer, and 404 without one.

    Attributes:
      answers: path, with the query → what to do with the connection. It stays open if the answer returns True.
      requests: all that have come.
      open, most_open: connections now, and the most at once.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, tls: ssl.SSLContext | None = None):
        super().__init__(("127.0.0.1", 0), _Connection)
        self.answers: dict[str, Answer] = {}
        self.requests: list[Request] = []
        self.tls = tls
        self.open = self.most_open = 0
        self.ends = threading.Event()
        self.lock = threading.Lock()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{'https' if self.tls else 'http'}://{host}:{self.server_address[1]}{path}"

    def asked(self, path: str) -> list[str]:
        """Returns the methods of the requests for a path."""
        return [request.method for request in self.requests if request.path == path]

    def handle_error(self, request, client_address) -> None:
        pass  # clients hang up


class _Connection(socketserver.BaseRequestHandler):
    server: WebServer

    def setup(self) -> None:
        if self.server.tls:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        with self.server.lock:
            self.server.open += 1
            self.server.most_open = max(self.server.most_open, self.server.open)

    def finish(self) -> None:
        with self.server.lock:
            self.server.open -= 1

    def handle(self) -> None:
        connection, waiting = self.request, b""
        while True:
            while b"\r\n\r\n" not in waiting:
                if not (received := connection.recv(65536)):
                    return
                waiting += received
            head, _, waiting = waiting.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            method, path, _ = first.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            self.server.requests.append(Request(method, path, headers))
            answer = self.server.answers.get(path) or status(404)
            if not answer(_Head(connection) if method == "HEAD" else connection):
                return


class _Head:
    """A connection on which the headers of an answer are sent alone."""

    def __init__(self, connection: socket.socket):
        self._connection = connection

    def sendall(self, content: bytes) -> None:
        self._connection.sendall(content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[WebServer]:
    with WebServer(tls) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.ends.set()
            server.shutdown()
            thread.join()


def head(status: str = "200 OK", **headers: object) -> bytes:
    """Returns the head of an answer; `_` in a name stands for a hyphen."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "\r\n"]).encode("latin-1")


def sends(content: bytes, *, stays: bool = False) -> Answer:
    """Returns the answer that sends exactly these bytes."""

    def answer(connection: socket.socket) -> bool:
        connection.sendall(content)
        return stays

    return answer


def image(encoded: bytes, **headers: object) -> Answer:
    """Returns the answer of a good server."""
    return sends(head(Content_Length=len(encoded), **headers) + encoded, stays=True)


def status(code: int, body: bytes = b"no", **headers: object) -> Answer:
    return sends(head(f"{code} Said", Content_Length=len(body), **headers) + body, stays=True)


def redirect(location: str, code: int = 302) -> Answer:
    return status(code, Location=location)


def in_turn(*answers: Answer) -> Answer:
    """Returns the answer that is another one each time, and at last stays the last."""
    left = list(answers)
    return lambda connection: (left.pop(0) if len(left) > 1 else left[0])(connection)


def hangs(server: WebServer, before: bytes = b"") -> Answer:
    """Returns the answer that sends some bytes, and then nothing until the server ends."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(before)
        server.ends.wait()

    return answer


def drips(server: WebServer, before: bytes, seconds: float = 0.2) -> Answer:
    """Returns the answer that goes on with a byte now and then."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(before)
        while not server.ends.wait(seconds):
            connection.sendall(b"x")

    return answer


def forever(before: bytes, chunk: bytes = bytes(2**16)) -> Answer:
    """Returns the answer that has no end."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(before)
        while True:
            connection.sendall(chunk)

    return answer


def bomb(unpacked: int) -> bytes:
    """Returns a gzip file of zeros, in members of 16 MiB."""
    return gzip.compress(bytes(2**24)) * (unpacked // 2**24)


def certificate(directory: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    """Returns the context of a server with these names, and the file that a client trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [
        x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
    ]
    signed = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, private = directory / "certificate.pem", directory / "key.pem"
    trusted.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, private)
    return context, trusted


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()
