"""The page's server: what it answers, and whom it refuses."""

import concurrent.futures
import contextlib
import http.client
import json
import socket
import threading
import time
from pathlib import Path

import pytest

from pipeline.commands.search import page, serve
from tests.helpers import data_generation as data
from tests.helpers import outputs

IMAGES = 5
UPLOADS = 50


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("in") / "photos"
    data.write_images(directory, IMAGES, height=60, width=80)
    return directory


def _ask(server, path, *, method="GET", body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def test_the_page_and_its_policy(server):
    response, content = _ask(server, "/")
    assert response.status == 200 and f"{IMAGES} images".encode() in content
    assert response.headers["Content-Security-Policy"] == page.POLICY
    assert "unsafe" not in page.POLICY and "http" not in page.POLICY


def test_the_neighbours_of_a_row_and_of_an_image(server, photos):
    _, content = _ask(server, "/neighbours")
    rows = json.loads(content)["neighbours"]
    assert [Path(row["key"]).name for row in rows] == [row["name"] for row in rows] and len(rows) == IMAGES
    _, content = _ask(server, f"/neighbours?row={rows[0]['row']}")
    neighbours = json.loads(content)["neighbours"]
    assert len(neighbours) == IMAGES - 1 and rows[0]["row"] not in {each["row"] for each in neighbours}
    _, content = _ask(server, "/search", method="POST", body=(photos / "00002.jpg").read_bytes())
    first, *_ = json.loads(content)["neighbours"]
    assert first["name"] == "00002.jpg" and first["cosine"] > 0.9999


def test_a_row_has_sixty_others_as_its_neighbours(tmp_path, start):
    outputs.write_run(tmp_path, [outputs.embedding(b"%d" % number, number) for number in range(70)])
    server = start(tmp_path, None)
    assert len(server.neighbours(None)["neighbours"]) == 60
    neighbours = [each["row"] for each in server.neighbours(3)["neighbours"]]
    assert len(neighbours) == 60 and 3 not in neighbours


def test_an_answer_says_what_a_browser_may_do_with_it(tmp_path, start):
    outputs.write_run(tmp_path, [outputs.embedding(b"a", 1)])
    server = start(tmp_path, None)
    for path, kind in (("/", "text/html; charset=utf-8"), ("/neighbours", "application/json")):
        response, _ = _ask(server, path)
        assert response.headers["Content-Type"] == kind and response.headers["Content-Security-Policy"] == page.POLICY
        allowed = ("Cross-Origin-Resource-Policy", "X-Content-Type-Options", "Referrer-Policy", "Cache-Control")
        assert [response.headers[name] for name in allowed] == ["same-origin", "nosniff", "no-referrer", "no-store"]


def test_the_names_of_rows_hide_nothing(tmp_path, start):
    key = "/photos/a\n\u202egpj.exe".encode()
    outputs.write_run(tmp_path, [outputs.embedding(key, 1)])
    (row,) = start(tmp_path, None).neighbours(None)["neighbours"]
    assert row["key"] == r"/photos/a\n\u202egpj.exe" and row["name"] == r"a\n\u202egpj.exe"


def test_a_thumbnail_is_a_jpeg(server):
    response, content = _ask(server, "/thumbnail?row=0")
    assert response.headers["Content-Type"] == "image/jpeg" and content[:2] == b"\xff\xd8"


def test_no_thumbnail_of_a_file_whose_name_a_shard_brought(tmp_path, start, photos):
    images = [outputs.embedding(bytes(photos / f"0000{i}.jpg"), i, in_shard=b"/s" if i else b"") for i in range(2)]
    outputs.write_run(tmp_path, images)
    own = start(tmp_path, None)
    rows = {row["name"]: row["row"] for row in own.neighbours(None)["neighbours"]}
    assert _ask(own, f"/thumbnail?row={rows['00000.jpg']}")[0].status == 200
    assert _ask(own, f"/thumbnail?row={rows['00001.jpg']}")[0].status == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/etc/passwd", 404),
        ("/thumbnail", 404),
        ("/thumbnail?row=/etc/passwd", 404),
        ("/thumbnail?row=-1", 404),
        (f"/thumbnail?row={IMAGES}", 404),
        (f"/neighbours?row={10**18 - 1}", 404),
        (f"/thumbnail?row={'9' * 5000}", 404),
        ("/thumbnail?key=/etc/passwd", 404),
    ],
)
def test_nothing_but_rows_of_the_runs(server, path, status):
    response, content = _ask(server, path)
    assert response.status == status and list(json.loads(content)) == ["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/thumbnail?row=0"), ("POST", "/search")])
def test_other_sites_are_refused(server, method, path, headers):
    response, content = _ask(server, path, method=method, body=b"x" if method == "POST" else None, **headers)
    assert response.status == 403
    assert json.loads(content) == {"error": f"expected a request of {server.url} itself"}


def test_its_own_names_and_origin_are_taken(server):
    port = server.server_port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        response, _ = _ask(server, "/neighbours", Host=host, Origin=f"http://{host}", Sec_Fetch_Site="same-origin")
        assert response.status == 200
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(("error", "is_shown"), [(BrokenPipeError, False), (RuntimeError, True)])
def test_a_browser_that_has_gone_is_no_error(server, capfd, error, is_shown):
    try:
        raise error
    except error:
        server.handle_error(None, ("127.0.0.1", 1))
    assert bool(capfd.readouterr().err) == is_shown


@pytest.mark.parametrize(
    ("body", "length", "status", "error"),
    [
        (b"no image", None, 400, "expected one of jpeg"),
        (b"", None, 400, "the file is empty"),
        (b"x", "9" * 5000, 413, "expected an image of at most"),
        (b"x", str(2**40), 413, "expected an image of at most"),
        (b"x", "-1", 413, "expected an image of at most"),
    ],
)
def test_what_is_no_image(server, body, length, status, error):
    headers = {"Content_Length": length} if length else {}
    response, content = _ask(server, "/search", method="POST", body=body, **headers)
    assert response.status == status and error in json.loads(content)["error"]


def test_fifty_uploads_at_once_are_all_answered(server, photos):
    image = (photos / "00002.jpg").read_bytes() + bytes(300_000)  # more than a socket holds
    together = threading.Barrier(UPLOADS)

    def upload(_):
        together.wait()
        response, content = _ask(server, "/search", method="POST", body=image)
        return response.status, json.loads(content)["neighbours"][0]["name"]

    with concurrent.futures.ThreadPoolExecutor(UPLOADS) as browsers:
        assert set(browsers.map(upload, range(UPLOADS))) == {(200, "00002.jpg")}


def test_no_more_images_are_searched_for_at_once_than_there_are_cores(tmp_path, start, monkeypatch):
    monkeypatch.setattr(serve, "usable_cores", lambda: 2)
    outputs.write_run(tmp_path, [outputs.embedding(b"a", 1)])
    searching, most = [], []

    def embed(encoded):
        searching.append(encoded)
        most.append(len(searching))
        time.sleep(0.05)  # for the others to come
        searching.remove(encoded)
        return own.index.vector(0)

    own = start(tmp_path, embed)
    with concurrent.futures.ThreadPoolExecutor(8) as browsers:
        list(browsers.map(own.search, [b"an image"] * 8))
    assert max(most) <= 2


def test_more_connections_than_places_wait_for_a_place(server, monkeypatch):
    """Those that send nothing lose theirs, and then the next is answered."""
    monkeypatch.setattr(serve, "_RECEIVE_SECONDS", 1.0)
    monkeypatch.setattr(serve._Handler, "timeout", 600)  # nothing else ends their connections
    with contextlib.ExitStack() as stack:
        for _ in range(serve.PLACES):
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", server.server_port)))
            silent.sendall(b"GET / HT")
        response, _ = _ask(server, "/")
        assert response.status == 200
        assert silent.recv(1) == b""  # its connection was closed


def test_a_browser_that_sends_a_byte_now_and_then_loses_its_place(server, monkeypatch):
    monkeypatch.setattr(serve, "_RECEIVE_SECONDS", 1.0)
    with socket.create_connection(("127.0.0.1", server.server_port)) as slow:
        slow.sendall(f"POST /search HTTP/1.0\r\nHost: 127.0.0.1:{server.server_port}\r\n".encode())
        slow.sendall(b"Content-Length: 1000000\r\n\r\n")
        with pytest.raises(ConnectionError):
            while True:
                slow.sendall(b"x")
                time.sleep(0.05)  # as a slow client does


def test_a_refusal_is_read_although_the_upload_is_not(server):
    response, content = _ask(server, "/none", method="POST", body=bytes(20_000_000))
    assert response.status == 404 and list(json.loads(content)) == ["error"]
