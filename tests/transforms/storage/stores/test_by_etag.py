"""transforms.storage.stores.by_etag: a version is an ETag, and a condition of the request."""

import http.server
import threading

import pytest

from transforms.storage import http_get
from transforms.storage.stores import by_etag


class _Object(http.server.BaseHTTPRequestHandler):
    """An object in the version `7`."""

    def do_GET(self):
        is_refused = self.headers.get("If-Match", '"7"') != '"7"'
        self.send_response(412 if is_refused else 200)
        content = b"" if is_refused else self.headers["X-Of-Store"].encode()
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def request_of():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Object) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield lambda path, headers: http_get.Request(f"http://127.0.0.1:{server.server_port}/a", headers)
        server.shutdown()
        thread.join()


def test_an_object_is_read_in_its_version(request_of):
    for version in ("7", ""):
        assert by_etag.get(request_of, "s3://b/a", version, {"X-Of-Store": "content"}).content == b"content"
    assert by_etag.get(request_of, "s3://b/a", "7", {"X-Of-Store": "content"}, 3).content == b"con"
    with pytest.raises(FileNotFoundError, match="^s3://b/a: no such object of version 6$"):
        by_etag.get(request_of, "s3://b/a", "6", {"X-Of-Store": "content"})


def test_a_version_is_an_etag_without_quotes():
    assert by_etag.version('"0x8D"') == by_etag.version("0x8D") == "0x8D"
