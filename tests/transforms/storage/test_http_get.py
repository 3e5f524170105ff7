"""transforms.storage.http_get: bytes arrive whole or not at all, and no more of them than asked for."""

import contextlib
import io
import itertools
import random
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.api_core.exceptions import RetryError

from transforms.storage import http_get
from transforms.storage.errors import StorageError
from transforms.storage.http_get import Refused, Request

RESET, CLOSE = object(), object()


def reply(content=b"", status=200, length=None, **headers):
    """Returns the bytes of a reply; `length` is what its head claims."""
    headers["Content-Length"] = len(content) if length is None else length
    lines = [f"HTTP/1.1 {status} Said", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + content


class Server(socketserver.ThreadingTCPServer):
    """A server that does for each request what a script says, step by step.

    A step is bytes to send, seconds to wait, RESET or CLOSE. A connection without one of these stays open.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.script = lambda target, headers: [reply(b"content")]
        self.requests = []  # (target, headers), as they arrive
        self.connections = self.sent = 0

    def answer(self, *scripts):
        """Has the first request answered by the first script, and so on; all further ones by the last."""
        left = list(scripts)
        self.script = lambda *_: left.pop(0) if len(left) > 1 else left[0]


class _Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.server.connections += 1
        with contextlib.suppress(OSError):
            while line := self.rfile.readline():
                headers = {}
                while pair := self.rfile.readline().strip():
                    name, _, value = pair.decode().partition(": ")
                    headers[name] = value
                target = line.split(b" ")[1]
                self.server.requests.append((target, headers))
                for step in self.server.script(target, headers):
                    if step in (RESET, CLOSE):
                        if step is RESET:
                            linger = struct.pack("ii", 1, 0)  # a close is a reset
                            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                        return
                    if isinstance(step, bytes):
                        self.connection.sendall(step)
                        self.server.sent += len(step)
                    else:
                        time.sleep(step)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(http_get, "RETRY", http_get.RETRY.with_delay(initial=0.01, maximum=0.01))
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(server, limit=2**30, **headers):
    return http_get.get(Request(f"{server.url}/a", headers), limit)


def test_a_reply_has_status_headers_and_content(server):
    server.answer([reply(b"content", 206, X_Goog_Hash="crc32c=1:2", ETag='"7"')])
    got = get(server, Range="bytes=0-6")
    assert (got.status, got.content) == (206, b"content")
    names = ("x-goog-hash", "etag", "content-length", "age")
    assert [got.header(name) for name in names] == ["crc32c=1:2", '"7"', "7", ""]
    assert server.requests[0][1]["Range"] == "bytes=0-6"


@pytest.mark.parametrize(
    "target", ["/a/../b", "/a/./b//c/", "//", "/a%2Fb", "/%0A%00%0D%20%25?x=%2E%2E&y=a/../b", "/%F0%9F%98%80"]
)
def test_a_name_arrives_as_it_was_quoted(server, target):
    http_get.get(Request(server.url + target))
    assert server.requests[0][0] == target.encode()


@pytest.mark.parametrize("length", [10**12, None], ids=["of a claimed length", "in chunks without end"])
def test_no_more_than_the_limit_is_read(server, length):
    block = bytes(2**16)
    if length:
        server.script = lambda *_: itertools.chain([reply(length=length)], itertools.repeat(block))
    else:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        server.script = lambda *_: itertools.chain([head], itertools.repeat(b"10000\r\n" + block + b"\r\n"))
    assert get(server, 1000).content == bytes(1000)
    assert get(server, 10**6).content == bytes(10**6)
    assert len(server.requests) == 2 and server.sent < 2**26
    server.answer([reply(b"content")])
    assert get(server).content == b"content"  # by the same thread


@pytest.mark.parametrize("limit", [1, 6, 7, 8])
def test_content_about_as_long_as_the_limit(server, limit):
    assert get(server, limit).content == b"content"[:limit]
    assert len(server.requests) == 1


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nconte\r\n"


@pytest.mark.parametrize(
    "failure",
    [
        [reply(b"conte", length=7), CLOSE],
        [reply(b"conte", length=7), RESET],
        [CHUNKED, CLOSE],
        [CHUNKED, RESET],
        [CLOSE],
        [RESET],
        [b"HTTP/1.1 200 OK\r\nContent-Le", CLOSE],
        [b"SSH-2.0-OpenSSH_9.2\r\n", CLOSE],
    ],
    ids=[
        "half",
        "half and reset",
        "half of chunks",
        "of chunks and reset",
        "closed",
        "reset",
        "half a head",
        "no HTTP",
    ],
)
def test_what_breaks_off_is_sent_again(server, failure):
    server.answer(failure, failure, [reply(b"content")])
    assert get(server).content == b"content"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_a_new_try_may_mend_is_tried_again(server, status):
    server.answer([reply(b"Slow down", status)], [reply(status=status)], [reply(b"content")])
    assert get(server).content == b"content"
    assert len(server.requests) == 3 and server.connections == 1


@pytest.mark.parametrize("status", [204, 304, 400, 401, 403, 404, 412, 501])
def test_what_is_refused_is_not_tried_again(server, status):
    content = b"" if status in (204, 304) else b" no\r\nsuch\x00 object \xff" + b"!" * 10**5
    server.answer([reply(content, status)])
    with pytest.raises(Refused) as refused:
        get(server)
    assert refused.value.status_code == status and len(server.requests) == 1
    message = str(refused.value)
    assert message.startswith(str(status)) and len(message) < 250 and "\n" not in message and "\r" not in message


def test_a_redirection_is_not_followed(server):
    with Server() as other:
        server.answer([reply(status=302, Location=f"{other.url}/b")])
        with pytest.raises(Refused, match="302"):
            get(server)
        assert len(server.requests) == 1 and not other.requests


def test_tries_end_and_the_error_names_neither_query_nor_headers(server, monkeypatch):
    monkeypatch.setattr(http_get, "RETRY", http_get.RETRY.with_timeout(0.3))
    for failure in ([RESET], [reply(status=503)]):
        server.answer(failure)
        with pytest.raises(RetryError) as error:
            http_get.get(Request(f"{server.url}/a?signature=secret", {"Authorization": "Bearer secret"}))
        texts = [str(error.value), repr(error.value.cause), repr(error.value.__cause__)]
        assert "secret" not in "".join(texts)
    assert len(server.requests) > 4


def test_nobody_listens(monkeypatch):
    monkeypatch.setattr(http_get, "RETRY", http_get.RETRY.with_timeout(0.5))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(RetryError, match=f"http://127.0.0.1:{bound.getsockname()[1]}: "):
            http_get.get(Request(f"http://127.0.0.1:{bound.getsockname()[1]}/a"))


@pytest.mark.slow
@pytest.mark.parametrize("before", [[], [b"HTTP/1.1 200 OK\r\n"], [reply(b"conte", length=7)]], ids=len)
def test_silence_is_noticed(server, monkeypatch, before):
    monkeypatch.setattr(http_get, "TIMEOUT", (1, 1))
    server.answer([*before, 60], [reply(b"content")])
    start = time.monotonic()
    assert get(server).content == b"content"
    assert 0.9 < time.monotonic() - start < 10 and len(server.requests) == 2


def test_a_thread_keeps_its_connection(server):
    for _ in range(50):
        assert get(server).content == b"content"
    assert len(server.requests) == 50 and server.connections == 1
    server.answer([RESET], [reply(b"content")])
    assert get(server).content == get(server).content == b"content"
    assert server.connections == 2


def test_nothing_of_a_request_is_left_for_the_next_of_its_thread(server):
    import pycurl

    http_get.get(Request(f"{server.url}/a", {"Range": "bytes=0-1"}, {pycurl.USERAGENT: "first", pycurl.COOKIE: "a=b"}))
    get(server, X="1")
    first, second = (headers for _, headers in server.requests)
    assert first["Range"] == "bytes=0-1" and first["User-Agent"] == "first" and first["Cookie"] == "a=b"
    assert second["X"] == "1" and not {"Range", "Cookie"} & set(second) and second.get("User-Agent") != "first"


def test_many_threads_each_get_their_own(server):
    server.script = lambda target, _: [reply(target * 1000)]

    def read(number):
        return number, http_get.get(Request(f"{server.url}/{number}")).content

    with ThreadPoolExecutor(32) as threads:
        for number, content in threads.map(read, range(1000)):
            assert content == b"/%d" % number * 1000
    assert server.connections <= 32 and len(server.requests) == 1000


@pytest.fixture
def certificate(tmp_path):
    """Returns the files of a certificate for 127.0.0.1 that nobody has signed, and of its key."""
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "2"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(command, check=True, capture_output=True)
    return files


@pytest.mark.slow
def test_a_certificate_is_checked_by_those_that_the_user_trusts(server, certificate, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = server.url.replace("http", "https")
    monkeypatch.setattr(http_get, "RETRY", http_get.RETRY.with_timeout(0.3))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    http_get._options.cache_clear()
    with pytest.raises(RetryError, match="(?i)certificate"):
        http_get.get(Request(f"{url}/a"))
    assert not server.requests
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    http_get._options.cache_clear()
    assert http_get.get(Request(f"{url}/a")).content == b"content"
    http_get._options.cache_clear()


def ranged(content):
    """Returns a script of a server that knows ranges."""

    def script(target, headers):
        first, last = map(int, headers["Range"].removeprefix("bytes=").split("-"))
        if first >= len(content):
            return [reply(b"no such range", 416, Content_Range=f"bytes */{len(content)}")]
        part = content[first : last + 1]
        return [reply(part, 206, Content_Range=f"bytes {first}-{first + len(part) - 1}/{len(content)}")]

    return script


def opened(server):
    return http_get.in_parts(lambda headers: get(server, **headers), "gs://photos/a")


@pytest.mark.parametrize(("size", "requests"), [(0, 1), (1, 1), (9, 1), (10, 1), (11, 2), (20, 2), (30, 3), (35, 4)])
@pytest.mark.parametrize("block", [1, 7, 10, 1000, -1])
def test_an_object_comes_in_parts(server, monkeypatch, size, requests, block):
    monkeypatch.setattr(http_get, "_PART_BYTES", 10)
    content = bytes(range(size))
    server.script = ranged(content)
    with opened(server) as file:
        assert b"".join(iter(lambda: file.read(block), b"")) == content
        assert file.read(block) == b"" == file.read()
    assert len(server.requests) == requests


def test_a_part_is_asked_for_once_it_is_needed(server, monkeypatch):
    monkeypatch.setattr(http_get, "_PART_BYTES", 2**20)
    server.script = ranged(bytes(3 * 2**20))
    with opened(server) as file:
        assert not server.requests
        assert file.read(10) == bytes(10) and len(server.requests) == 1


def test_a_server_without_ranges_sends_the_whole(server, monkeypatch):
    monkeypatch.setattr(http_get, "_PART_BYTES", 10)
    for content in (b"", bytes(range(35))):
        server.answer([reply(content)])
        server.requests.clear()
        with opened(server) as file:
            assert file.read() == content
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "second",
    [
        reply(bytes(10)),
        reply(b"", 206, Content_Range="bytes 10-19/30"),
        reply(bytes(10), 206),
        reply(bytes(10), 206, Content_Range="bytes 10-19/*"),
    ],
    ids=["the whole", "nothing", "no range", "no size"],
)
def test_a_part_that_is_none_is_an_error(server, monkeypatch, second):
    """Or bytes would be missing, or come twice, or there would be no end."""
    monkeypatch.setattr(http_get, "_PART_BYTES", 10)
    server.answer([reply(bytes(10), 206, Content_Range="bytes 0-9/30")], [second])
    with opened(server) as file, pytest.raises(StorageError, match="gs://photos/a: expected a part .* from byte 10 on"):
        file.read()
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "error", "text"), [(404, Refused, "404"), (412, Refused, "412"), (416, StorageError, "from byte 10 on")]
)
def test_an_object_that_is_gone_between_two_parts(server, monkeypatch, status, error, text):
    monkeypatch.setattr(http_get, "_PART_BYTES", 10)
    server.answer([reply(bytes(10), 206, Content_Range="bytes 0-9/30")], [reply(b"gone", status)])
    with opened(server) as file, pytest.raises(error, match=text):
        file.read()


def test_a_part_that_breaks_off_is_sent_again(server, monkeypatch):
    monkeypatch.setattr(http_get, "_PART_BYTES", 10)
    whole, calls = ranged(bytes(range(30))), itertools.count()
    server.script = lambda *request: [RESET] if next(calls) % 2 else whole(*request)
    with opened(server) as file:
        assert file.read() == bytes(range(30))
    assert len(server.requests) == 5


@pytest.mark.parametrize("size", [0, 35])
def test_an_object_is_read_from_any_byte_on(server, monkeypatch, size):
    """As records of earlier attempts and the end of Parquet files are."""
    monkeypatch.setattr(http_get, "_PART_BYTES", 10)
    content = bytes(range(size))
    server.script = ranged(content)
    for offset, whence in [(0, 0), (3, 0), (10, 0), (25, 0), (35, 0), (99, 0), (0, 2), (-min(8, size), 2)]:
        with opened(server) as file, io.BytesIO(content) as plain:
            assert file.seek(offset, whence) == plain.seek(offset, whence) == file.tell()
            assert file.read(4) == plain.read(4) and file.read() == plain.read()
            assert file.seek(1) == 1 and file.read() == content[1:]


def test_an_object_is_read_from_where_a_reader_seeks(server, monkeypatch):
    """As readers of Parquet do, and readers of single records."""
    monkeypatch.setattr(http_get, "_PART_BYTES", 10)
    content = bytes(range(95))
    server.script = ranged(content)
    chance = random.Random(0)
    with opened(server) as file:
        expected = io.BytesIO(content)
        assert file.seekable() and file.seek(-8, io.SEEK_END) == expected.seek(-8, io.SEEK_END)
        for _ in range(200):
            size = chance.randrange(30)
            assert file.read(size) == expected.read(size) and file.tell() == expected.tell()
            place = chance.choice([(chance.randrange(120), io.SEEK_SET), (-chance.randrange(95), io.SEEK_END)])
            assert file.seek(*place) == expected.seek(*place)


@pytest.mark.parametrize(("place", "expected"), [(3, b"345"), (10, b""), (20, b"")])
def test_the_first_thing_that_a_reader_does_may_be_to_seek(server, place, expected):
    for script in (ranged(b"012345"), lambda *request: [reply(b"012345")]):
        server.script = script
        with opened(server) as file:
            file.seek(place)
            assert file.read() == expected
