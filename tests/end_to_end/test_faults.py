import collections
import concurrent.futures
import contextlib
import hashlib
import http.client
import http.server
import io
import random
import socket
import threading
import time
import urllib.parse

import google.api_core.exceptions
import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, storage

from tests.helpers import emulators
from tests.helpers.faults import Decisions, Faults, Hold, fault_proxy

# What the pipeline has to live with. With the seed 5, of the first dozen uploads each kind meets one, and so does the
# creation of the table.
ROUGH = Faults(unavailable=0.2, too_many=0.2, reset=0.1)


class _Echo(http.server.BaseHTTPRequestHandler):
    """Says what it was asked; a path says in which manner."""

    protocol_version = "HTTP/1.1"

    def _answer(self):
        if self.path == "/unread":
            self._send(404, b"no such upload")
            self.close_connection = True
            return
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(pieces)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, body))
        here = f"http://127.0.0.1:{self.server.server_port}"
        if self.path == "/digest":
            self._send(200, hashlib.sha256(body).hexdigest().encode())
        elif self.path == "/session":
            self._send(308, b"", {"Location": f"{here}/digest", "Range": "bytes=0-41"})
        elif self.path.startswith("/links"):
            self._send(200, f'{{"mediaLink": "{here}/digest"}}'.encode(), {"Content-Type": "application/json"})
        elif self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in (b"one", b"two", b""):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.server.released.wait(10)
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"short")
            self.close_connection = True
        elif self.path == "/deleted":
            self.send_response(204)
            self.end_headers()
        else:
            self._send(200, b"%b %b" % (self.command.encode(), body), {"X-Host": self.headers["Host"]})

    do_DELETE = do_GET = do_HEAD = do_PATCH = do_POST = do_PUT = _answer  # noqa: N815

    def _send(self, status, body, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def target():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    server.daemon_threads = True
    server.asked, server.released = [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.released.set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@contextlib.contextmanager
def _connected(url):
    with contextlib.closing(http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=10)) as connection:
        yield connection


def _ask(connection, method, path, body=None, **options):
    connection.request(method, path, body=body, **options)
    reply = connection.getresponse()
    return reply.status, reply.read(), reply.headers


def test_without_rates_it_only_takes_notes(target):
    with fault_proxy(target.url) as proxy, _connected(proxy.url) as connection:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            assert _ask(connection, method, "/a?b=c", b"body")[:2] == (200, f"{method} body".encode())
        status, body, headers = _ask(connection, "HEAD", "/a?b=c")
        assert (status, body, headers["Content-Length"]) == (200, b"", "5")
        assert headers["X-Host"] == f"127.0.0.1:{target.server_port}"
        assert _ask(connection, "DELETE", "/deleted")[:2] == (204, b"")
        paths = [*[(method, "/a?b=c", 200) for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")]]
        assert proxy.log == [*paths, ("DELETE", "/deleted", 204)]
        assert (proxy.requests, proxy.faults) == (7, {})


def test_links_to_the_target_lead_to_the_proxy_but_not_in_what_users_stored(target):
    with fault_proxy(target.url) as proxy, _connected(proxy.url) as connection:
        status, _, headers = _ask(connection, "PUT", "/session", b"x")
        assert (status, headers["Location"], headers["Range"]) == (308, f"{proxy.url}/digest", "bytes=0-41")
        assert proxy.url.encode() in _ask(connection, "GET", "/links")[1]
        assert target.url.encode() in _ask(connection, "GET", "/links?alt=media")[1]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_of_100_mb_goes_through_in_linear_time(target, chunked):
    blocks = [bytes([number]) * 2**20 for number in range(100)]
    digest = hashlib.sha256(b"".join(blocks)).hexdigest().encode()
    headers = {} if chunked else {"Content-Length": str(100 * 2**20)}
    with fault_proxy(target.url) as proxy, _connected(proxy.url) as connection:
        started = time.monotonic()
        assert _ask(connection, "PUT", "/digest", iter(blocks), headers=headers, encode_chunked=chunked)[1] == digest
        assert time.monotonic() - started < 20  # about 1 s, where the machine is idle
        assert _ask(connection, "GET", "/next")[0] == 200


def test_replies_stream(target):
    target.released.clear()
    with fault_proxy(target.url) as proxy, _connected(proxy.url) as connection:
        connection.request("GET", "/chunked")
        reply = connection.getresponse()
        assert reply.read1() == b"one"
        target.released.set()
        assert reply.read() == b"two"


def test_a_reply_that_the_target_cut_short_is_cut_short_for_the_client(target):
    with (
        fault_proxy(target.url) as proxy,
        _connected(proxy.url) as connection,
        pytest.raises(http.client.IncompleteRead),
    ):
        _ask(connection, "GET", "/cut")


def test_a_reply_before_the_end_of_the_request_goes_through(target):
    # The storage emulator answers so where it does not know the upload; what the proxy had not sent is lost.
    with fault_proxy(target.url) as proxy, _connected(proxy.url) as connection:
        assert _ask(connection, "PUT", "/unread", b"x" * 2**25)[:2] == (404, b"no such upload")
        assert _ask(connection, "GET", "/next")[0] == 200


def test_a_target_that_is_gone_is_a_502():
    with fault_proxy(f"http://127.0.0.1:{emulators.free_port()}") as proxy, _connected(proxy.url) as connection:
        status, body, _ = _ask(connection, "PUT", "/a", b"x" * 2**21)
        assert (status, b"the target is gone" in body) == (502, True)
        assert proxy.log == [("PUT", "/a", 502)]


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [("unavailable", 503, b'"reason": "backendError"'), ("too_many", 429, b'"reason": "rateLimitExceeded"')],
)
def test_refusals_look_like_those_of_google_and_never_reach_the_target(target, kind, code, reason):
    with (
        fault_proxy(target.url, rates=Faults(**{kind: 1}), in_a_row=1) as proxy,
        _connected(proxy.url) as connection,
    ):
        status, body, _ = _ask(connection, "POST", "/a", b"x" * 2**21)
        assert (status, reason in body, target.asked) == (code, True, [])
        assert _ask(connection, "POST", "/a", b"x" * 2**21)[0] == 200  # on the same connection
        assert [each.outcome for each in proxy.log] == [kind, 200]
        assert proxy.faults == {kind: 1}


@pytest.mark.parametrize(("kind", "arrived"), [("reset", []), ("lost_reply", [("POST", "/a", b"x")])])
def test_a_reset_prevents_the_effect_and_a_lost_reply_does_not(target, kind, arrived):
    with fault_proxy(target.url, rates=Faults(**{kind: 1}), in_a_row=1) as proxy:
        with _connected(proxy.url) as connection, pytest.raises(ConnectionResetError) as error:
            _ask(connection, "POST", "/a", b"x")
        assert not isinstance(error.value, http.client.RemoteDisconnected), "closed with FIN, expected RST"
        assert target.asked == arrived
        with _connected(proxy.url) as connection:
            assert _ask(connection, "POST", "/a", b"x")[1] == b"POST x"
        assert proxy.faults == {kind: 1}


def test_a_hang_ends(target):
    with fault_proxy(target.url, rates=Faults(hang=1), in_a_row=1, hang_seconds=0.5) as proxy:
        started = time.monotonic()
        with _connected(proxy.url) as connection, pytest.raises(ConnectionError):
            _ask(connection, "GET", "/a")
        assert 0.5 <= time.monotonic() - started < 5
        assert target.asked == []
        with _connected(proxy.url) as connection:
            assert _ask(connection, "GET", "/a")[0] == 200


def test_the_end_of_the_block_ends_hangs_and_kept_connections(target):
    with fault_proxy(target.url, rates=Faults(hang=1), paths="/hangs", hang_seconds=600) as proxy:
        kept = http.client.HTTPConnection(urllib.parse.urlsplit(proxy.url).netloc, timeout=10)
        assert _ask(kept, "GET", "/a")[0] == 200
        hanging = socket.create_connection((kept.host, kept.port), timeout=10)
        hanging.sendall(b"GET /hangs HTTP/1.1\r\nHost: x\r\n\r\n")
        while not proxy.faults:
            time.sleep(0.01)
        started = time.monotonic()
    with contextlib.closing(hanging), contextlib.closing(kept):
        assert hanging.recv(1) == b""
        with pytest.raises(ConnectionError):
            _ask(kept, "GET", "/a")
    assert time.monotonic() - started < 5


def test_latency_delays_each_request(target):
    with fault_proxy(target.url, latency=0.2) as proxy, _connected(proxy.url) as connection:
        started = time.monotonic()
        assert _ask(connection, "GET", "/a")[0] == 200
        assert time.monotonic() - started >= 0.2


def test_only_the_named_paths_fail(target):
    with (
        fault_proxy(target.url, rates=Faults(unavailable=1), paths="^POST .*/jobs") as proxy,
        _connected(proxy.url) as connection,
    ):
        assert [_ask(connection, method, "/jobs")[0] for method in ("GET", "POST")] == [200, 503]


def test_the_decisions_follow_from_the_seed_whatever_the_threads_do(target):
    paths = [f"/{number % 40}" for number in range(400)]

    def outcomes(seed, threads):
        rates = Faults(unavailable=0.3, too_many=0.3)
        with fault_proxy(target.url, seed=seed, rates=rates) as proxy:

            def ask(path):
                with _connected(proxy.url) as connection:
                    _ask(connection, "GET", path)

            with concurrent.futures.ThreadPoolExecutor(threads) as pool:
                list(pool.map(ask, paths))
            return collections.Counter(proxy.log)

    assert outcomes(1, threads=8) == outcomes(1, threads=1) != outcomes(2, threads=8)


def test_what_is_made_up_in_each_run_does_not_change_the_decisions():
    def drawn(generation, job):
        decisions = Decisions(3, Faults(unavailable=0.5))
        paths = [f"/o/a.jpg?alt=media&generation={generation}", f"/jobs/{job}", f"/tables/t_staging_{job[-12:]}_run"]
        return [decisions.next("GET", path) for path in paths * 4]

    one = drawn(1774761234567890, "0f8fad5b-d9cb-469f-a165-70867728950e")
    assert one == drawn(1774999999999999, "7c9e6679-7425-40de-944b-e07fc1f90ae7")
    assert set(one) == {None, "unavailable"}


def test_a_held_request_waits_until_it_is_released(target):
    hold = Hold("^POST /jobs .*COMMIT", passing=1)
    with fault_proxy(target.url, hold=hold) as proxy, concurrent.futures.ThreadPoolExecutor(1) as pool:

        def ask(body):
            with _connected(proxy.url) as connection:
                return _ask(connection, "POST", "/jobs", body)[1]

        assert [ask(body) for body in (b"BEGIN", b"COMMIT 1", b"BEGIN")] == [
            b"POST BEGIN",
            b"POST COMMIT 1",
            b"POST BEGIN",
        ]
        assert not hold.reached.is_set()
        held = pool.submit(ask, b"COMMIT 2")
        assert hold.reached.wait(10)
        assert ask(b"BEGIN") == b"POST BEGIN"
        assert len(target.asked) == 4 and not held.done()
        hold.released.set()
        assert held.result(10) == b"POST COMMIT 2"


def test_a_held_request_never_arrives_where_the_proxy_ends_first(target):
    hold = Hold("")
    with (
        contextlib.ExitStack() as stack,
        fault_proxy(target.url, hold=hold) as proxy,
    ):
        connection = stack.enter_context(_connected(proxy.url))
        connection.request("POST", "/jobs", b"x")
        assert hold.reached.wait(10)
    assert target.asked == []


def test_the_rates_are_met_and_rows_of_faults_end():
    rates = Faults(unavailable=0.2, too_many=0.2, reset=0.1)
    decisions = Decisions(7, rates, in_a_row=10)
    drawn = [decisions.next("GET", f"/{number}") for number in range(10_000)]
    # Of 10,000 draws the standard deviation of a share of 0.2 is 0.004.
    assert drawn.count("unavailable") / 10_000 == pytest.approx(0.2, abs=0.016)
    assert drawn.count("reset") / 10_000 == pytest.approx(0.1, abs=0.012)
    assert set(drawn) == {None, "unavailable", "too_many", "reset"}
    always = Decisions(7, Faults(reset=1), in_a_row=2)
    assert [always.next("GET", "/a") for _ in range(7)] == ["reset", "reset", None] * 2 + ["reset"]


def test_a_row_of_faults_ends_for_each_of_several_callers_of_one_path(target):
    decisions = Decisions(7, Faults(unavailable=1), in_a_row=2)
    assert [decisions.next("POST", "/jobs", body) for body in (b"a", b"a", b"b", b"a")] == ["unavailable"] * 2 + [
        None
    ] * 2
    with (
        fault_proxy(target.url, rates=Faults(unavailable=1), in_a_row=1) as proxy,
        _connected(proxy.url) as connection,
    ):
        assert [_ask(connection, "POST", "/jobs", body)[0] for body in (b"a", b"b", b"a")] == [503, 200, 200]


@pytest.mark.parametrize("rates", [{"reset": -0.1}, {"reset": 0.6, "hang": 0.5}], ids=["negative", "above 1"])
def test_rates_that_are_no_probabilities_are_refused(rates):
    with pytest.raises(ValueError, match="expected probabilities"):
        Faults(**rates)


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "http://127.0.0.1", "http://127.0.0.1:1/path"])
def test_a_target_that_is_no_plain_server_is_refused(url):
    with pytest.raises(ValueError, match="expected 'http://HOST:PORT'"), fault_proxy(url):
        pass


@pytest.fixture(scope="module")
def storage_url(tmp_path_factory):
    with emulators.storage_emulator(tmp_path_factory.mktemp("storage")) as env:
        yield env["STORAGE_EMULATOR_HOST"]


@pytest.fixture(scope="module")
def bigquery_url(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bigquery")
    with emulators.bigquery_emulator(directory, directory) as env:
        yield env["BIGQUERY_EMULATOR_HOST"]


def _storage(url):
    return storage.Client(project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": url})


def _bigquery(url):
    return bigquery.Client(project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": url})


def test_the_storage_client_gets_through_what_the_pipeline_has_to_live_with(storage_url):
    _storage(storage_url).create_bucket("rough")
    contents = {f"{number}.bin": random.Random(number).randbytes(1000) for number in range(12)}
    with fault_proxy(storage_url, seed=5, rates=ROUGH) as proxy:
        bucket = _storage(proxy.url).bucket("rough")
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda name: bucket.blob(name).upload_from_string(contents[name]), contents))
            blobs = list(bucket.list_blobs())
            read = dict(pool.map(lambda blob: (blob.name, blob.download_as_bytes()), blobs))
        assert read == contents
        assert set(proxy.faults) == {"unavailable", "too_many", "reset"}
        # The links in the listing were followed, and led to the proxy though the uploads had come through it too.
        assert sum(each.outcome == 200 and "alt=media" in each.path for each in proxy.log) == 12
    assert {blob.name: blob.download_as_bytes() for blob in _storage(storage_url).list_blobs("rough")} == contents


def test_a_resumable_upload_stays_behind_the_proxy(storage_url):
    _storage(storage_url).create_bucket("resumable")
    content = random.Random(1).randbytes(600_000)
    with fault_proxy(storage_url, rates=Faults(unavailable=1), in_a_row=1, paths="^PUT") as proxy:
        with _storage(proxy.url).bucket("resumable").blob("a").open("wb", chunk_size=2**18) as file:
            file.write(content)
        assert [each.outcome for each in proxy.log if each.method == "PUT"] == ["unavailable", 308] * 2 + [
            "unavailable",
            200,
        ]
    assert _storage(storage_url).bucket("resumable").blob("a").download_as_bytes() == content


@pytest.mark.parametrize("kind", ["reset", "lost_reply"])
def test_a_lost_reply_took_effect_in_storage_and_a_reset_did_not(storage_url, kind):
    bucket = _storage(storage_url).create_bucket(kind)
    with (
        fault_proxy(storage_url, rates=Faults(**{kind: 1})) as proxy,
        pytest.raises(requests.exceptions.ConnectionError),
    ):
        _storage(proxy.url).bucket(kind).blob("a").upload_from_string(b"x", retry=None)
    assert bucket.blob("a").exists() == (kind == "lost_reply")


def test_the_bigquery_client_gets_through_what_the_pipeline_has_to_live_with(bigquery_url):
    _bigquery(bigquery_url).create_dataset("rough")
    with fault_proxy(bigquery_url, seed=5, rates=ROUGH) as proxy:
        client = _bigquery(proxy.url)
        client.create_table(
            bigquery.Table("test.rough.rows", [bigquery.SchemaField("number", "INT64")]), exists_ok=True
        )
        load = bigquery.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON")
        client.load_table_from_file(io.BytesIO(b'{"number": 1}'), "test.rough.rows", job_config=load).result()
        client.query("INSERT INTO rough.rows (number) VALUES (2)").result()
        more = bigquery.QueryJobConfig(query_parameters=[bigquery.ScalarQueryParameter("more", "INT64", 10)])
        rows = client.query_and_wait("SELECT number + @more AS sum FROM rough.rows ORDER BY 1", job_config=more)
        assert [row.sum for row in rows] == [11, 12]
        assert proxy.faults


def test_a_lost_reply_took_effect_in_bigquery(bigquery_url):
    _bigquery(bigquery_url).create_dataset("lost")
    table = bigquery.Table("test.lost.rows", [bigquery.SchemaField("number", "INT64")])
    with fault_proxy(bigquery_url, rates=Faults(lost_reply=1), in_a_row=1) as proxy:
        with pytest.raises(google.api_core.exceptions.Conflict):
            _bigquery(proxy.url).create_table(table)
        assert [each.outcome for each in proxy.log] == ["lost_reply", 409]


def test_a_job_whose_reply_was_lost_is_not_done_again(bigquery_url):
    _bigquery(bigquery_url).create_dataset("twice")
    _bigquery(bigquery_url).create_table(bigquery.Table("test.twice.rows", [bigquery.SchemaField("number", "INT64")]))
    insert = "INSERT INTO twice.rows (number) VALUES (1)"
    with fault_proxy(bigquery_url, rates=Faults(lost_reply=1), in_a_row=1, paths="^POST .*/jobs") as proxy:
        with pytest.raises(google.api_core.exceptions.Conflict):  # as BigQuery says where a job of that id exists
            for _ in range(2):
                with contextlib.suppress(requests.exceptions.ConnectionError):
                    _bigquery(proxy.url).query(insert, job_id="once", job_id_prefix=None, retry=None, job_retry=None)
        assert [each.outcome for each in proxy.log if each.method == "POST"] == ["lost_reply", "repeated"]
    (row,) = _bigquery(bigquery_url).query_and_wait("SELECT COUNT(*) AS count FROM twice.rows")
    assert row.count == 1


def test_an_upload_whose_reply_was_lost_is_complete(storage_url):
    bucket = _storage(storage_url).create_bucket("complete")
    with fault_proxy(storage_url, rates=Faults(lost_reply=1), in_a_row=1, paths="^PUT") as proxy:
        with _storage(proxy.url).bucket("complete").blob("a").open("wb") as file:
            file.write(b"x")
        assert [each.outcome for each in proxy.log if each.method == "PUT"] == ["lost_reply", 200]
    assert bucket.blob("a").download_as_bytes() == b"x"
