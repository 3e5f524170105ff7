"""transforms.storage.stores.gcs: one request an object, of one generation, billed to whom was named."""

import gzip
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import google.auth
import pytest
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError

from tests.helpers.cloud_storage import clients_of
from transforms.concurrent.in_flight import CONCURRENCY_MAX
from transforms.storage import http_get, versioned
from transforms.storage.context import DEFAULT_STORAGE, Storage
from transforms.storage.errors import Forbidden, StorageError
from transforms.storage.stores import gcs


def upload(name, content):
    blob = gcs.client().bucket("photos").blob(name)
    blob.upload_from_string(content)
    return gcs.described(DEFAULT_STORAGE, f"gs://photos/{name}")


def open_and_read(path, generation):
    with gcs.opened(DEFAULT_STORAGE, path, generation) as file:
        return file.read()


def test_one_request_to_describe_and_one_to_read(server):
    content = bytes(range(256)) * 1000
    upload("a b/ü?#.jpg", content)
    server.requests.clear()
    found = gcs.described(DEFAULT_STORAGE, "gs://photos/a b/ü?#.jpg")
    assert found[:4] == ("gs://photos/a b/ü?#.jpg", found.version, len(content), versioned.crc32c(content))
    assert int(found.version) > 0 and abs(found.changed - time.time()) < 3600
    assert len(server.requests) == 1
    assert gcs.read(DEFAULT_STORAGE, "gs://photos/a b/ü?#.jpg", found.version) == content
    assert [method for method, _ in server.requests] == ["GET", "GET"]
    assert server.queries()[-1]["generation"] == [found.version]


def test_each_request_is_billed(server):
    stored = upload("a.jpg", b"content")
    server.requests.clear()
    gcs.described(Storage("payer"), "gs://photos/a.jpg")
    gcs.read(Storage("payer"), "gs://photos/a.jpg", stored.version)
    with gcs.opened(Storage("payer"), "gs://photos/a.jpg", stored.version) as file:
        assert file.read(3) + file.read(100) == b"content"
    assert len(server.requests) >= 3
    assert all(query["userProject"] == ["payer"] for query in server.queries())


def test_no_more_than_the_limit_is_read(server):
    stored = upload("a.jpg", bytes(10**6))
    assert gcs.read(DEFAULT_STORAGE, "gs://photos/a.jpg", stored.version, 10**6 + 1) == bytes(10**6)
    assert gcs.read(DEFAULT_STORAGE, "gs://photos/a.jpg", stored.version, 1000) == bytes(1000)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_no_object_has_makes_no_request(server, name):
    for call in (gcs.described, lambda storage, path: gcs.read(storage, path, "7")):
        with pytest.raises(ValueError, match="expected gs://BUCKET/NAME of an object"):
            call(DEFAULT_STORAGE, f"gs://photos/{name}")
    assert server.requests == []


def test_nothing_there(server):
    with pytest.raises(FileNotFoundError, match="gs://photos/a.jpg: no such object$"):
        gcs.described(DEFAULT_STORAGE, "gs://photos/a.jpg")
    with pytest.raises(FileNotFoundError, match="no such object of version 7"):
        gcs.read(DEFAULT_STORAGE, "gs://photos/a.jpg", "7")
    assert len(server.requests) == 2


PACKED = gzip.compress(b"what an image viewer sees" * 100)


class _Packed(BaseHTTPRequestHandler):
    """One object that was uploaded with `Content-Encoding: gzip`, given as Cloud Storage gives it.

    Who accepts gzip gets it as stored, with that header, and any other gets it unpacked:
    https://cloud.google.com/storage/docs/transcoding
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if "alt=media" not in self.path:
            described = {"generation": "7", "size": str(len(PACKED)), "crc32c": versioned.crc32c(PACKED)}
            self._reply(200, json.dumps(described | {"contentEncoding": "gzip"}).encode(), [])
        elif "gzip" in self.headers.get("Accept-Encoding", ""):
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            part = PACKED[int(first) : int(last) + 1 if last else None]
            span = f"bytes {first}-{int(first) + len(part) - 1}/{len(PACKED)}"
            headers = [("Content-Encoding", "gzip"), ("X-Goog-Hash", f"crc32c={versioned.crc32c(PACKED)}")]
            is_part = "Range" in self.headers
            self._reply(206 if is_part else 200, part, [*headers, *([("Content-Range", span)] if is_part else [])])
        else:
            self._reply(200, gzip.decompress(PACKED), [("Warning", "214 UploadServer gunzipped")])

    def _reply(self, status, body, headers):
        self.send_response(status)
        for name, value in [*headers, ("Content-Length", str(len(body)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def packing_server(monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Packed) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with clients_of(monkeypatch, f"http://127.0.0.1:{server.server_port}"):
            yield
            gcs.client()._http.close()  # or the server waits for its connections
        server.shutdown()
        thread.join()


def test_a_packed_object_is_read_as_stored(packing_server):
    stored = gcs.described(DEFAULT_STORAGE, "gs://photos/a.svgz")
    assert stored[1:4] == ("7", len(PACKED), versioned.crc32c(PACKED))
    assert gcs.read(DEFAULT_STORAGE, "gs://photos/a.svgz", stored.version) == PACKED
    with gcs.opened(DEFAULT_STORAGE, "gs://photos/a.svgz", stored.version) as file:
        assert file.read(10) + file.read() == PACKED


def test_only_the_listed_generation_is_read(paging):
    first = upload("a.jpg", b"one")
    second = upload("a.jpg", b"one")
    assert first.crc32c == second.crc32c and first.version != second.version
    assert gcs.read(DEFAULT_STORAGE, "gs://photos/a.jpg", second.version) == b"one"
    with pytest.raises(FileNotFoundError, match=f"version {first.version}"):
        gcs.read(DEFAULT_STORAGE, "gs://photos/a.jpg", first.version)
    assert open_and_read("gs://photos/a.jpg", second.version) == b"one"
    with pytest.raises(FileNotFoundError, match=f"version {first.version}"):
        open_and_read("gs://photos/a.jpg", first.version)


REQUESTS = {
    "describe": lambda path, generation: gcs.described(DEFAULT_STORAGE, path),
    "read": lambda path, generation: gcs.read(DEFAULT_STORAGE, path, generation),
    "open": open_and_read,
}


@pytest.mark.parametrize("request_of", REQUESTS.values(), ids=REQUESTS)
def test_what_a_new_try_may_mend_is_tried_again(server, request_of):
    stored = upload("a.jpg", b"content")
    answers = [503, 429, 408]
    server.answer = lambda url: answers.pop() if answers else None
    assert request_of("gs://photos/a.jpg", stored.version) in (b"content", stored)
    assert not answers


@pytest.mark.parametrize("request_of", REQUESTS.values(), ids=REQUESTS)
def test_a_reply_that_never_comes_is_given_up(server, monkeypatch, request_of):
    stored = upload("a.jpg", b"content")
    server.requests.clear()
    monkeypatch.setattr(http_get, "TIMEOUT", (0.3, 0.3))
    for module in (gcs, http_get):
        monkeypatch.setattr(module, "RETRY", module.RETRY.with_timeout(3))
    server.delay = 2.5
    with pytest.raises(StorageError, match="Timeout of 3.0s exceeded"):
        request_of("gs://photos/a.jpg", stored.version)
    assert len(server.requests) >= 2


def test_what_is_forbidden_is_not_tried_again(server):
    server.answer = lambda url: 403
    with pytest.raises(Forbidden):
        gcs.described(DEFAULT_STORAGE, "gs://photos/a.jpg")
    assert len(server.requests) == 1


def test_the_time_for_an_object_is_bounded():
    # A connection that hangs costs half a minute, and all tries together little more than two minutes.
    assert http_get.TIMEOUT == (10, 30)
    for retry in (gcs.RETRY, http_get.RETRY):
        assert retry.timeout == 120 and retry._maximum <= 16


def test_a_bucket_is_no_object(server):
    with pytest.raises(ValueError, match="'gs://photos': expected gs://BUCKET/NAME of an object"):
        gcs.described(DEFAULT_STORAGE, "gs://photos")


@pytest.fixture
def new_client():
    gcs.client.cache_clear()
    yield
    gcs.client.cache_clear()


def test_public_buckets_are_read_without_credentials(monkeypatch, new_client):
    def default(**options):
        raise DefaultCredentialsError("none here")

    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(google.auth, "default", default)
    assert isinstance(gcs.client()._credentials, AnonymousCredentials)


def test_as_many_connections_are_kept_as_requests_may_be_in_flight(monkeypatch, new_client):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    for url in ("https://storage.googleapis.com", "http://127.0.0.1:1"):
        assert gcs.client()._http.get_adapter(url)._pool_maxsize == CONCURRENCY_MAX


def test_an_object_that_is_gone_is_removed(server):
    """If the reply to a request is lost, the next one does not find the object."""
    upload("a.jpg", b"content")
    for _ in range(2):
        gcs.remove(DEFAULT_STORAGE, "gs://photos/a.jpg")
    assert list(gcs.listed(DEFAULT_STORAGE, "gs://photos/")) == []


def test_an_object_is_copied(paging):
    stored = upload("a b.jpg", b"content")
    gcs.copy(DEFAULT_STORAGE, "gs://photos/a b.jpg", "gs://photos/c/ü.jpg")
    copied = gcs.described(DEFAULT_STORAGE, "gs://photos/c/ü.jpg")
    assert copied[2:4] == stored[2:4] and gcs.read(DEFAULT_STORAGE, "gs://photos/c/ü.jpg", copied.version) == b"content"
    gcs.remove(DEFAULT_STORAGE, "gs://photos/a b.jpg")
    with pytest.raises(FileNotFoundError, match=r"gs://photos/a b.jpg: no such object"):
        gcs.copy(DEFAULT_STORAGE, "gs://photos/a b.jpg", "gs://photos/b.jpg")


class _Credentials(AnonymousCredentials):
    """Tokens by number, and how often they were renewed."""

    def __init__(self):
        super().__init__()
        self.renewed = 0

    def before_request(self, request, method, url, headers):
        headers["Authorization"] = f"Bearer {self.renewed}"

    def refresh(self, request):
        self.renewed += 1


def test_a_token_that_is_refused_is_renewed_once_for_all_threads(server, monkeypatch):
    stored = upload("a.jpg", b"content")
    monkeypatch.setattr(gcs.client(), "_credentials", credentials := _Credentials())
    refused = [401] * 8
    server.answer = lambda url: refused.pop() if refused and "alt=media" in url else None
    server.delay = 0.2  # so that all of them come with the first token
    with ThreadPoolExecutor(8) as threads:
        read = threads.map(lambda _: gcs.read(DEFAULT_STORAGE, "gs://photos/a.jpg", stored.version), range(8))
        assert list(read) == [b"content"] * 8
    assert credentials.renewed == 1


def test_who_has_no_credentials_is_forbidden(server):
    stored = upload("a.jpg", b"content")
    server.answer = lambda url: 401
    with pytest.raises(Forbidden, match="401"):
        gcs.read(DEFAULT_STORAGE, "gs://photos/a.jpg", stored.version)


def test_an_emulator_without_a_scheme_is_named(monkeypatch, new_client):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "user:not-told@127.0.0.1:4443")
    with pytest.raises(ValueError, match="^the variable STORAGE_EMULATOR_HOST: expected http://") as raised:
        gcs.described(DEFAULT_STORAGE, "gs://photos/a.jpg")
    assert "not-told" not in str(raised.value)
