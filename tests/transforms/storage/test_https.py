"""transforms.storage.https: images from good servers, and one error from each other, in bounded time and bytes."""

import contextlib
import email.utils
import gc
import os
import socket
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helpers import web_server
from tests.helpers.web_server import drips, forever, hangs, head, image, in_turn, redirect, sends, status
from transforms.storage import https, web_hosts
from transforms.storage.context import Storage

pytestmark = pytest.mark.slow

JPEG = b"\xff\xd8\xff" + bytes(1300)
HERE = Storage(allow_private_hosts=True, url_seconds=10)
LIMIT = 2**28


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Connections and memories of hosts are of one test. Time is short."""
    https._hosts.cache_clear()
    monkeypatch.setattr(https, "_SLOW_SECONDS", 1)
    monkeypatch.setattr(https, "_FIRST_DELAY", 0.02)
    yield
    https._hosts.cache_clear()


@pytest.fixture
def web():
    with web_server.serving() as server:
        yield server


def failed(url, storage=HERE):
    """Returns the error of a URL, whether another try may help, and how it is described."""
    with pytest.raises(OSError) as caught:
        https.read(storage, url, LIMIT)
    return type(caught.value).__name__, getattr(caught.value, "retryable", True), str(caught.value)


def test_an_image_has_the_version_that_the_server_tells(web):
    web.answers["/tag.jpg"] = image(JPEG, ETag='"a1"', Last_Modified="Wed, 21 Oct 2026 07:28:00 GMT")
    web.answers["/time.jpg"] = image(JPEG, Last_Modified="Wed, 21 Oct 2026 07:28:00 GMT")
    web.answers["/none.jpg"] = image(JPEG)
    web.answers["/long.jpg"] = image(JPEG, ETag='"' + "x" * 1000 + '"')
    versions = {"/tag.jpg": '"a1"', "/time.jpg": "Wed, 21 Oct 2026 07:28:00 GMT", "/none.jpg": "", "/long.jpg": ""}
    for path, version in versions.items():
        assert https.read(HERE, web.url(path), LIMIT) == (JPEG, version)
        assert web.asked(path) == ["GET"]
        assert https.describe(HERE, web.url(path)) == version
        assert web.asked(path) == ["GET", "HEAD"]


def test_a_server_that_refuses_head_is_asked_by_get(web):
    def only_get(connection):
        if isinstance(connection, web_server._Head):
            return status(405)(connection)
        return forever(head(ETag='"1"'))(connection)

    web.answers["/a.jpg"] = only_get
    assert https.describe(HERE, web.url("/a.jpg")) == '"1"'
    assert web.asked("/a.jpg") == ["HEAD", "GET"]


def test_what_a_request_tells(web, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    web.answers["/a.jpg"] = image(JPEG, Set_Cookie="id=1")
    for _ in range(2):
        https.read(HERE, web.url("/a.jpg"), LIMIT)
    for request in web.requests:
        assert request.headers.keys() == {"host", "user-agent", "accept", "accept-encoding"}
        assert request.headers["accept-encoding"] == "identity"
        assert "beam-image-embeddings" in request.headers["user-agent"]
    assert web.most_open == 1  # the connection is kept


@pytest.mark.parametrize(
    ("answer", "error", "retryable"),
    [
        (status(404), "NoSuchImage", False),
        (status(410), "NoSuchImage", False),
        (status(401, WWW_Authenticate="Basic"), "RefusedByServer", False),
        (status(403), "RefusedByServer", False),
        (status(204, b""), "RefusedByServer", False),
        (status(206), "RefusedByServer", False),
        (status(451), "RefusedByServer", False),
        (status(501), "RefusedByServer", False),
        (status(429), "ServerBusy", True),
        (status(500), "ServerBusy", True),
        (status(503), "ServerBusy", True),
        (status(522), "ServerBusy", True),
        (image(b"<!DOCTYPE html><html>", Content_Type="text/html"), "NotAnImage", False),
        (image(b"\xef\xbb\xbf \r\n<html>", Content_Type="image/jpeg"), "NotAnImage", False),
        (image(b'<?xml version="1.0"?><svg/>', Content_Type="image/svg+xml"), "NotAnImage", False),
        (image(b'{"error": "no"}', Content_Type="application/json"), "NotAnImage", False),
        (image(b"Not found", Content_Type="text/plain; charset=utf-8"), "NotAnImage", False),
        (sends(head(Content_Length=2000) + JPEG), "BrokenConnection", True),
        (sends(head(Transfer_Encoding="chunked") + b"100\r\nx"), "BrokenConnection", True),
        (sends(b""), "BrokenConnection", True),
        (sends(head(Content_Length="x") + JPEG), "BadAnswer", False),
        (sends(head(Content_Length="-5") + JPEG), "BadAnswer", False),
        (sends(b"SSH-2.0-OpenSSH_9.2\r\n" * 9), "BadAnswer", False),
        (forever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 99), "BadAnswer", False),
        (forever(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 9999), "BadAnswer", False),
        (forever(head("100 Continue"), head("100 Continue")), "BrokenConnection", True),
        (forever(head()), "TooLarge", False),
        (forever(head(Transfer_Encoding="chunked"), b"10000\r\n" + bytes(2**16) + b"\r\n"), "TooLarge", False),
        (forever(head(Content_Length=10 * 2**30)), "TooLarge", False),
        (forever(head("404 Not Found")), "NoSuchImage", False),
        (redirect("file:///etc/passwd"), "BadRedirect", False),
        (redirect("gopher://127.0.0.1:25/"), "BadRedirect", False),
        (redirect("http://"), "BadRedirect", False),
        (status(302), "BadRedirect", False),
        (redirect("/circle"), "BadRedirect", False),
    ],
)
def test_each_bad_answer_is_one_error_and_soon(web, answer, error, retryable):
    web.answers["/circle"] = answer
    start, cpu = time.monotonic(), time.process_time()
    assert failed(web.url("/circle"))[:2] == (error, retryable)
    assert time.monotonic() - start < 5 and time.process_time() - cpu < 4
    assert len(web.requests) <= 6


def test_the_content_decides_and_not_its_type(web):
    web.answers["/a"] = image(JPEG, Content_Type="text/html")
    web.answers["/b"] = image(b"\0\0\0\x18ftypavif", Content_Type="text/plain")
    web.answers["/c"] = image(b"", Content_Type="text/plain")  # decoding says that it is empty
    assert [len(https.read(HERE, web.url(path), LIMIT).stored) for path in ("/a", "/b", "/c")] == [len(JPEG), 12, 0]


@pytest.mark.parametrize("path", ["before", "in the head", "in the body", "drips a head", "drips a body"])
def test_a_server_that_hangs_is_given_up(web, path):
    web.answers["/a"] = {
        "before": hangs(web),
        "in the head": hangs(web, b"HTTP/1.1 200 OK\r\nContent-"),
        "in the body": hangs(web, head(Content_Length=9000) + JPEG),
        "drips a head": drips(web, b"HTTP/1.1 200 OK\r\nX: "),
        "drips a body": drips(web, head(Content_Length=9000)),
    }[path]
    start = time.monotonic()
    error, retryable, message = failed(web.url("/a"))
    assert (error, retryable) == ("TookTooLong", True) and "too slow" in message
    assert time.monotonic() - start < 4


def test_a_server_that_is_just_fast_enough_ends_with_the_time_of_the_image(web, monkeypatch):
    monkeypatch.setattr(https, "_LEAST_BYTES", 1)
    web.answers["/a"] = drips(web, head(Content_Length=9000), seconds=0.05)
    start = time.monotonic()
    assert failed(web.url("/a"), Storage(allow_private_hosts=True, url_seconds=2))[:2] == ("TookTooLong", True)
    assert 1.5 < time.monotonic() - start < 4


def test_nobody_listens(web):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        error = failed(f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert error[:2] == ("BrokenConnection", True) and "Could not connect" in error[2]


def test_a_name_that_does_not_resolve():
    assert failed("http://nobody.invalid/a.jpg")[:2] == ("UnknownHost", True)


@pytest.mark.parametrize("wait", ["seconds", "date"])
def test_a_busy_server_is_asked_again_when_it_says(web, wait):
    after = 1 if wait == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
    web.answers["/a"] = in_turn(status(429, Retry_After=after), image(JPEG))
    start = time.monotonic()
    assert https.read(HERE, web.url("/a"), LIMIT).stored == JPEG
    assert 0.9 < time.monotonic() - start < 4
    assert len(web.requests) == 2


def test_a_server_that_asks_for_more_time_than_there_is_gets_it(web):
    web.answers |= {"/a": status(503, Retry_After=3600), "/b": image(JPEG)}
    start = time.monotonic()
    assert failed(web.url("/a"))[:2] == ("ServerBusy", True)
    assert failed(web.url("/b"))[:2] == ("BusyHost", True)
    assert time.monotonic() - start < 2 and web.asked("/b") == []


@pytest.mark.parametrize("after", ["", "-1", "soon", "1e9", "99999999999999999999", "Wed, 99 Oct 2026 07:28:00 GMT"])
def test_any_wish_for_a_pause_is_understood_or_ignored(after):
    assert https._retry_after(https._Response(503, {"retry-after": after}, "", b"")) >= 0


def test_what_may_pass_is_tried_again(web):
    bad = sends(b""), status(500), sends(head(Content_Length=2000) + JPEG)
    web.answers["/a"] = in_turn(*bad, image(JPEG))
    assert https.read(HERE, web.url("/a"), LIMIT).stored == JPEG
    assert len(web.requests) == 4


def test_redirects_are_followed(web):
    web.answers |= {
        "/1": redirect("2?x=%20y", 301),
        "/2?x=%20y": redirect(web.url("/3", "localhost"), 307),
        "/3": redirect(web.url("/a.jpg").removeprefix("http:"), 308),
        "/a.jpg": image(JPEG, ETag='"1"'),
    }
    assert https.read(HERE, web.url("/1#part"), LIMIT) == (JPEG, '"1"')
    assert https.describe(HERE, web.url("/1")) == '"1"'


HOSTS_HERE = [
    *("127.0.0.1", "127.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "017700000001", "127.0.0.1."),
    *("localhost", "LOCALHOST", "localhost.", "sub.localhost", "0", "0.0.0.0", "[::]", "[::1]", "[0:0:0:0:0:0:0:1]"),  # noqa: S104 - to be refused
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"),
    *("169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "10.0.0.1", "100.100.100.200", "168.63.129.16"),
]


@pytest.mark.parametrize("host", HOSTS_HERE)
def test_no_spelling_of_an_inner_address_is_reached(web, host):
    web.answers |= {"/a.jpg": image(JPEG), "/to": redirect(web.url("/a.jpg", host))}
    error, retryable, message = failed(web.url("/a.jpg", host), Storage(url_seconds=5))
    assert error in ("PrivateAddress", "UnknownHost"), message
    assert not web.requests
    assert error == "UnknownHost" or (not retryable and "--allow_private_hosts" in message)


@pytest.mark.parametrize(
    "url",
    ["http://１２７.0.0.1/", "http://127。0。0。1/", "http://①②⑦.⓪.⓪.①/", "http://\udce9.com/", "http://a..b..\u00e9/"],
)
def test_digits_of_other_alphabets_and_names_that_are_none(url):
    assert failed(url, Storage(url_seconds=5))[0] in ("BadUrl", "PrivateAddress", "UnknownHost")


def test_a_redirect_from_a_public_host_to_an_inner_address(web, monkeypatch):
    """127.0.0.1 plays the public host, and ::1 the inner one to which `localhost` leads too."""
    monkeypatch.setattr(https, "is_public", lambda address: address == "127.0.0.1")
    for host in ("[::1]", "0.0.0.0", "169.254.169.254", "[::ffff:127.0.0.1]"):  # noqa: S104 - to be refused
        web.answers["/to"] = redirect(web.url("/a.jpg", host))
        assert failed(web.url("/to"), Storage(url_seconds=5))[0] == "PrivateAddress"
    assert set(web.asked("/a.jpg")) == set()


def test_a_name_that_is_another_address_at_its_second_look(web, monkeypatch):
    """DNS rebinding: the check is of the address of each connection, so a public answer before does not help."""
    looks: list[str] = []

    def is_public(address):
        looks.append(address)
        return address == "127.0.0.1" and looks.count(address) == 1

    monkeypatch.setattr(https, "is_public", is_public)
    web.answers["/a.jpg"] = lambda connection: image(JPEG)(connection) and False  # a connection a request
    assert https.read(Storage(url_seconds=5), web.url("/a.jpg", "localhost"), LIMIT).stored == JPEG
    time.sleep(0.1)
    assert failed(web.url("/a.jpg", "localhost"), Storage(url_seconds=5))[0] == "PrivateAddress"
    assert len(web.requests) == 1


def test_a_connection_that_was_allowed_serves_no_other_rule(web):
    web.answers["/a.jpg"] = image(JPEG)
    assert https.read(HERE, web.url("/a.jpg"), LIMIT).stored == JPEG
    assert failed(web.url("/a.jpg"), Storage(url_seconds=5))[0] == "PrivateAddress"


def test_no_proxy_of_the_environment_is_asked_unless_private_hosts_are_allowed(web, monkeypatch):
    web.answers["http://photos.invalid/a.jpg"] = image(JPEG)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, web.url(""))
    assert failed("http://photos.invalid/a.jpg", Storage(url_seconds=5))[0] == "UnknownHost"
    assert not web.requests
    assert https.read(HERE, "http://photos.invalid/a.jpg", LIMIT).stored == JPEG


@pytest.mark.parametrize(
    ("listed", "asked"),
    [
        ("/a b.jpg", "/a%20b.jpg"),
        ("/caf\u00e9.jpg", "/caf%C3%A9.jpg"),
        ("/caf\udce9.jpg", "/caf%E9.jpg"),
        ("/a%20b%2Fc.jpg?q=%C3%A9&r=\u00e9", "/a%20b%2Fc.jpg?q=%C3%A9&r=%C3%A9"),
        ("/a.jpg#front", "/a.jpg"),
        ("/a\r\nX: y.jpg", "/a%0D%0AX:%20y.jpg"),
        ("?x=1", "/?x=1"),
    ],
)
def test_any_path_is_asked_for_as_browsers_do(web, listed, asked):
    web.answers[asked] = image(JPEG)
    assert https.read(HERE, web.url(listed), LIMIT).stored == JPEG


def test_names_of_other_alphabets():
    assert https._target("HTTPS://Ex\u00e4mple.com:8443/a").url == "https://xn--exmple-cua.com:8443/a"


@pytest.mark.parametrize(
    "url",
    [
        *("http://", "http:///a.jpg", "http://:80/", "http://h:99999/", "http://h:x/", "https://[::1/", "ftp://h/a"),
        *("http://exa mple.com/", "//h/a.jpg"),
    ],
)
def test_malformed_urls(url):
    assert failed(url)[:2] == ("BadUrl", False)


@pytest.mark.parametrize("url", ["https://me:secret@h/a.jpg", "http://me@h/", "http://me:secret\\@h/", "http://@h/"])
def test_credentials_in_a_url_are_neither_sent_nor_repeated(url):
    error, _, message = failed(url, Storage(url_seconds=2))
    assert error in ("BadUrl", "UnknownHost") and "secret" not in message


def test_tls(web, tmp_path, monkeypatch):
    context, trusted = web_server.certificate(tmp_path, "localhost", "127.0.0.1")
    with web_server.serving(context) as tls:
        tls.answers |= {"/a.jpg": image(JPEG), "/down": redirect(web.url("/a.jpg"))}
        web.answers |= {"/a.jpg": image(JPEG), "/up": redirect(tls.url("/a.jpg", "localhost"))}
        assert failed(tls.url("/a.jpg", "localhost"))[:2] == ("UntrustedServer", False)
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        https._hosts.cache_clear()
        assert https.read(HERE, tls.url("/a.jpg", "localhost"), LIMIT).stored == JPEG
        assert https.read(HERE, web.url("/up"), LIMIT).stored == JPEG
        assert failed(tls.url("/down", "localhost"))[:2] == ("BadRedirect", False)
        assert failed(tls.url("/a.jpg", "sub.localhost"))[0] == "UntrustedServer"


def test_a_host_that_hangs_keeps_no_other_waiting_and_is_soon_left_alone(web):
    web.answers |= {"/hangs": hangs(web), "/a.jpg": image(JPEG)}
    with ThreadPoolExecutor(16) as threads:
        silent = [threads.submit(failed, web.url("/hangs", "localhost")) for _ in range(12)]
        time.sleep(0.3)
        start = time.monotonic()
        assert https.read(HERE, web.url("/a.jpg"), LIMIT).stored == JPEG
        assert time.monotonic() - start < 0.5
        errors = [call.result()[:2] for call in silent]
    assert set(errors) == {("TookTooLong", True), ("SilentHost", True)}
    assert web_hosts.PER_HOST <= len(web.asked("/hangs")) <= web_hosts.PER_HOST + 2
    start = time.monotonic()
    assert failed(web.url("/hangs", "localhost"))[0] == "SilentHost" and time.monotonic() - start < 0.1


def test_a_request_in_a_hurry_says_nothing_about_its_host(web):
    web.answers |= {"/hangs": hangs(web), "/a.jpg": image(JPEG)}
    for _ in range(4):
        assert failed(web.url("/hangs"), Storage(allow_private_hosts=True, url_seconds=0.1))[0] == "TookTooLong"
    assert https.read(HERE, web.url("/a.jpg"), LIMIT).stored == JPEG


def test_a_host_has_few_connections(web):
    def slowly(connection):
        time.sleep(0.02)
        return image(JPEG)(connection)

    web.answers["/a.jpg"] = slowly
    with ThreadPoolExecutor(32) as threads:
        images = list(threads.map(lambda _: https.read(HERE, web.url("/a.jpg"), LIMIT), range(200)))
    assert len(images) == 200 and web.most_open == web_hosts.PER_HOST


def test_nothing_is_left_open_or_kept_in_memory(web):
    web.answers |= {"/a.jpg": image(JPEG), "/endless": forever(head()), "/gone": sends(b"")}
    tracemalloc.start()
    before = len(os.listdir("/proc/self/fd"))
    for path in ("/a.jpg", "/endless", "/gone") * 3:
        with contextlib.suppress(OSError):
            https.read(HERE, web.url(path), LIMIT)
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2.5 * https.MAX_BYTES and kept < 2**20
    https._hosts.cache_clear()
    gc.collect()  # a handle and its callbacks hold each other
    assert web_server.wait_until(lambda: web.open == 0)
    assert len(os.listdir("/proc/self/fd")) <= before
