"""transforms.storage.stores: all kinds of buckets keep the same promises, on real servers.

Each test runs on fake-gcs-server, behind a proxy that knows the preconditions of Cloud Storage, on versitygw, on moto
and on Azurite.
"""

import concurrent.futures
import contextlib
import itertools
import os
import re
import socket
import time
import types
import uuid
from collections.abc import Iterator

import pytest

from tests.helpers import object_servers
from tests.helpers.cloud_storage import paging_server, proxy
from tests.helpers.faults import fault_proxy
from transforms.elements import keys
from transforms.elements.records import ImageRef
from transforms.storage import contested, http_get, reachable, read_image, stores, versioned
from transforms.storage.context import DEFAULT_STORAGE
from transforms.storage.errors import Forbidden, NotFound, PreconditionFailed
from transforms.storage.stores.store import NoConnection

pytestmark = pytest.mark.slow

SCHEMES = {"fake-gcs-server": "gs", "versitygw": "s3", "moto": "s3", "azurite": "az"}
# Where a user names another server: the variable, and its value for a URL.
ENDPOINTS = {
    "gs": lambda url: {"STORAGE_EMULATOR_HOST": url},
    "s3": lambda url: {"AWS_ENDPOINT_URL": url},
    "az": lambda url: {
        "AZURE_STORAGE_CONNECTION_STRING": f"AccountName=account;AccountKey=a2V5;BlobEndpoint={url}/account;"
    },
}


@contextlib.contextmanager
def started(name: str, directory) -> Iterator[dict[str, str]]:
    """Starts a server; yields the environment under which clients find it."""
    if name == "fake-gcs-server":
        with paging_server() as url, fault_proxy(url, preconditions=True) as enforcing:
            yield {"STORAGE_EMULATOR_HOST": enforcing.url, "GOOGLE_CLOUD_PROJECT": "test"}
    else:
        program = getattr(object_servers, f"{name}_program", lambda: True)()
        if not program:
            pytest.skip(f"no {name}: see tests/helpers/object_servers.py")
        with getattr(object_servers, name)(directory) as found:
            yield found


@pytest.fixture(scope="module", params=SCHEMES)
def server(request, tmp_path_factory) -> Iterator[types.SimpleNamespace]:
    """A server, at which the clients of this process point."""
    with started(request.param, tmp_path_factory.mktemp("server")) as environment:
        yield types.SimpleNamespace(name=request.param, scheme=SCHEMES[request.param], environment=environment)


@pytest.fixture
def top(server) -> Iterator[str]:
    """An empty bucket of the test's own, as in s3://photos."""
    with object_servers.clients_of(server.environment):
        path = f"{server.scheme}://photos-{uuid.uuid4().hex[:8]}"
        object_servers.make_bucket(path)
        yield path


@pytest.fixture
def store(top):
    return stores.of(top)


def put(path, content):
    """Writes an object as a whole, and returns what the store then says about it."""
    with stores.of(path).create(DEFAULT_STORAGE, path) as file:
        file.write(content)
    return stores.of(path).described(DEFAULT_STORAGE, path)


def opened(store, stored):
    with store.opened(DEFAULT_STORAGE, stored.path, stored.version) as file:
        return file.read()


NAMES = [
    *(
        "plain.jpg",
        "a b/ü?#.jpg",
        "a+b&c=d.jpg",
        "100%.jpg",
        "a%2Fb.jpg",
        "a%252Fb.jpg",
        "写真/😀.jpg",
        "q\"uote'<>.jpg",
    ),
    *(
        "[b]*.jpg",
        "~t!$(),;:@.jpg",
        "a//b.jpg",
        "/lead.jpg",
        "./dot.jpg",
        "x/../y.jpg",
        "y.jpg",
        "dot.jpg",
        "..a/b..jpg",
    ),
    *(
        "tab\tx.jpg",
        "line\nfeed.jpg",
        "back\\slash.jpg",
        "end/",
        "a\x01b.jpg",
        "é.jpg",
        "e\u0301.jpg",
        "a/" * 100 + "z",
    ),
]
# What a server makes of names is its own affair, see `object_servers`. These it keeps otherwise than its service.
OF_SERVER = {
    "fake-gcs-server": {"line\nfeed.jpg"},
    "versitygw": {"a//b.jpg", "/lead.jpg", "./dot.jpg", "x/../y.jpg", "end/", "a\x01b.jpg"},
    "moto": {"line\nfeed.jpg"},
    "azurite": {"back\\slash.jpg", "a\x01b.jpg"},
}


def test_each_name_is_kept_or_refused_and_never_another(server, top, store):
    names = [name for name in NAMES if name not in OF_SERVER[server.name]]
    stored, refused = {}, []
    for name in names:
        try:
            stored[name] = put(f"{top}/{name}", name.encode())
        except (ValueError, OSError) as error:
            assert len(str(error).splitlines()) == 1 and "expected" in str(error)
            refused.append(name)
    assert set(refused) == ({"./dot.jpg", "x/../y.jpg"} if server.scheme == "az" else set())
    for name in refused:
        for request in (store.described, lambda storage, path: store.read(storage, path, "")):
            with pytest.raises(ValueError, match="expected"):
                request(DEFAULT_STORAGE, f"{top}/{name}")
    for name, found in stored.items():
        assert found.path == f"{top}/{name}" and found.size == len(name.encode()) and found.version
        assert store.read(DEFAULT_STORAGE, found.path, found.version) == name.encode() == opened(store, found)
    listed = list(store.listed(DEFAULT_STORAGE, f"{top}/"))
    assert [each.path for each in listed] == sorted(f"{top}/{name}" for name in stored)
    for each in listed:
        known = stored[each.path[len(top) + 1 :]]
        assert each[:4] == known[:4] and abs(each.changed - known.changed) < 2


def test_a_version_is_pinned(top, store):
    first = put(f"{top}/a.jpg", b"one")
    second = put(f"{top}/a.jpg", b"two")
    assert first.version != second.version and abs(second.changed - time.time()) < 3600
    assert store.read(DEFAULT_STORAGE, second.path, second.version) == b"two" == opened(store, second)
    for stale in (first.version, "123456"):
        for request in (store.read, lambda storage, path, version: store.opened(storage, path, version).read()):
            with pytest.raises(FileNotFoundError, match=f"^{top}/a.jpg: no such object of version {stale}$"):
                request(DEFAULT_STORAGE, second.path, stale)
    with pytest.raises(versioned.ChangedSinceListed, match=f"expected version {first.version} as listed"):
        read_image.read(DEFAULT_STORAGE, versioned.ref_of(first))
    unlisted = ImageRef(keys.of_uri(second.path))
    assert read_image.read(DEFAULT_STORAGE, unlisted).encoded == b"two"


def test_an_object_that_changes_between_two_parts(top, store, monkeypatch):
    monkeypatch.setattr(http_get, "_PART_BYTES", 10)
    stored = put(f"{top}/a.tar", bytes(25))
    with store.opened(DEFAULT_STORAGE, stored.path, stored.version) as file:
        assert file.read(5) == bytes(5)
        put(stored.path, bytes(26))
        with pytest.raises(FileNotFoundError, match="no such object of version"):
            file.read()


def test_no_more_than_the_limit_is_read(top, store):
    stored = put(f"{top}/a.jpg", os.urandom(10**6))
    content = store.read(DEFAULT_STORAGE, stored.path, stored.version)
    for limit in (1, 10**6 - 1, 10**6, 10**6 + 1):
        assert store.read(DEFAULT_STORAGE, stored.path, stored.version, limit) == content[:limit]


@pytest.mark.parametrize("size", [0, 1, 10, 11, 30, 35])
def test_an_object_is_opened_in_parts(top, store, monkeypatch, size):
    monkeypatch.setattr(http_get, "_PART_BYTES", 10)
    stored = put(f"{top}/a.tar", bytes(range(size)))
    assert opened(store, stored) == bytes(range(size))
    with store.opened(DEFAULT_STORAGE, stored.path, stored.version) as file:
        assert file.seek(-min(size, 7), os.SEEK_END) == max(0, size - 7)
        assert file.read() == bytes(range(size))[-7:]
        file.seek(3)
        assert file.read(4) == bytes(range(size))[3:7]


def test_a_large_object_is_written_and_read(top, store):
    content = os.urandom(20 * 2**20)  # in several requests, both ways
    stored = put(f"{top}/large", content)
    assert stored.size == len(content) and opened(store, stored) == content


def test_a_write_has_a_condition(top, store):
    path = f"{top}/runs/r.unfinished"
    first = store.write(DEFAULT_STORAGE, path, b"1", None)
    assert store.described(DEFAULT_STORAGE, path).version == first
    second = store.write(DEFAULT_STORAGE, path, b"2", first)
    for version, name in ((None, path), (first, path), (second, f"{path}-none")):
        with pytest.raises(PreconditionFailed):
            store.write(DEFAULT_STORAGE, name, b"3", version)
    assert store.read(DEFAULT_STORAGE, path, second) == b"2"
    store.remove(DEFAULT_STORAGE, path, first)
    assert store.read(DEFAULT_STORAGE, path, second) == b"2"
    store.remove(DEFAULT_STORAGE, path, second)
    with pytest.raises(FileNotFoundError, match=f"^{path}: no such object$"):
        store.described(DEFAULT_STORAGE, path)
    for version in (None, second):
        store.remove(DEFAULT_STORAGE, path, version)  # what is gone is removed


@pytest.mark.parametrize("exists", [False, True])
def test_of_sixteen_that_write_at_once_one_wins(top, store, exists):
    path = f"{top}/runs/r.unfinished"
    version = store.write(DEFAULT_STORAGE, path, b"first", None) if exists else None

    def write(number):
        try:
            return store.write(DEFAULT_STORAGE, path, b"%d" % number, version)
        except PreconditionFailed:
            return None

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        written = list(pool.map(write, range(16)))
    (winner,) = [number for number, version in enumerate(written) if version]
    assert store.read(DEFAULT_STORAGE, path, written[winner]) == b"%d" % winner


def test_an_object_is_copied(top, store):
    stored = put(f"{top}/a b.jpg", b"content")
    put(f"{top}/c/ü?.jpg", b"replaced")
    store.copy(DEFAULT_STORAGE, stored.path, f"{top}/c/ü?.jpg")
    copied = store.described(DEFAULT_STORAGE, f"{top}/c/ü?.jpg")
    assert store.read(DEFAULT_STORAGE, copied.path, copied.version) == b"content"
    store.remove(DEFAULT_STORAGE, stored.path)
    with pytest.raises(FileNotFoundError, match=f"^{stored.path}: no such object$"):
        store.copy(DEFAULT_STORAGE, stored.path, f"{top}/b.jpg")
    assert [each.path for each in store.listed(DEFAULT_STORAGE, f"{top}/")] == [copied.path]


def test_names_are_listed_in_order_over_several_pages(server, top, store, monkeypatch):
    for name in {"_PAGE_SIZE", "PAGE_SIZE"} & vars(store).keys():
        monkeypatch.setattr(store, name, 10)
    names = [f"many/{number:03}.jpg" for number in range(35)] + ["many/é.jpg", "many/\ufffd.jpg", "many/\U0001f600.jpg"]
    assert names == sorted(names)  # by characters, as UTF-8 is, and UTF-16 is not
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.write(DEFAULT_STORAGE, f"{top}/{name}", b"x", None), [*names, "a", "z"]))

    def listed(front="many/", **limits):
        return [each.path[len(top) + 1 :] for each in store.listed(DEFAULT_STORAGE, f"{top}/{front}", **limits)]

    if server.name == "azurite":  # which orders names by UTF-16
        assert listed() == sorted(names, key=lambda name: name.encode("utf-16-be"))
        for start, end in [(5, -1), (35, -1), (36, 37), (37, None)]:
            assert set(listed(start=names[start], end=names[end] if end else "")) == set(names[start:end])
        names = names[:-1]
        store.remove(DEFAULT_STORAGE, f"{top}/many/\U0001f600.jpg")
    assert listed() == names and listed("") == ["a", *names, "z"] and listed("nothing") == []
    for start, end in [(0, 1), (3, 3), (5, 25), (9, 11), (30, len(names) - 1)]:
        assert listed(start=names[start], end=names[end]) == names[start:end]
        assert listed(start=f"{names[start]}\0", end=names[end]) == names[start + 1 : end]
    assert listed(start="many/0195") == names[20:] and listed(start="zz") == [] == listed(end="a")
    for limit in (1, 9, 10, 11, 20, 100):
        assert listed(limit=limit) == names[:limit]
        assert listed(start=names[3], limit=limit) == names[3:][:limit]


def test_what_is_not_there(server, top, store):
    """A bucket or an object; neither is taken for the other's state."""
    nowhere = f"{top}-none"
    for path in (f"{top}/a.jpg", f"{nowhere}/a.jpg"):
        for request in (
            lambda path: store.described(DEFAULT_STORAGE, path),
            lambda path: store.read(DEFAULT_STORAGE, path, ""),
            lambda path: store.opened(DEFAULT_STORAGE, path, "").read(),
        ):
            with pytest.raises(FileNotFoundError, match=f"^{path}: no such object") as error:
                request(path)
            assert len(str(error.value).splitlines()) == 1
        assert contested.read(path) is None
    assert list(store.listed(DEFAULT_STORAGE, f"{top}/")) == []
    for request in (
        lambda: next(store.listed(DEFAULT_STORAGE, f"{nowhere}/"), None),
        lambda: put(f"{nowhere}/a.jpg", b"x"),
        lambda: contested.write(f"{nowhere}/a.jpg", b"x", None),
    ):
        with pytest.raises(NotFound, match=f"^{nowhere}/.*") as error:
            request()
        assert len(str(error.value).splitlines()) == 1
    reachable.check(DEFAULT_STORAGE, nowhere)  # a refusal is an answer


def test_who_may_not_read_is_told_so_in_one_line_without_credentials(server, top, store):
    if server.name in ("fake-gcs-server", "moto"):
        pytest.skip("it lets everybody in")
    stored = put(f"{top}/a.jpg", b"content")
    key = "c2VjcmV0LXdyb25nLWtleQ=="
    wrong = {
        "s3": {"AWS_SECRET_ACCESS_KEY": key, "AWS_ACCESS_KEY_ID": server.environment.get("AWS_ACCESS_KEY_ID", "")},
        "az": {
            "AZURE_STORAGE_CONNECTION_STRING": re.sub(
                r"AccountKey=[^;]*", f"AccountKey={key}", server.environment.get("AZURE_STORAGE_CONNECTION_STRING", "")
            )
        },
    }[server.scheme]
    with object_servers.clients_of(wrong):
        for request in (
            lambda: store.described(DEFAULT_STORAGE, stored.path),
            lambda: store.read(DEFAULT_STORAGE, stored.path, stored.version),
            lambda: store.opened(DEFAULT_STORAGE, stored.path, stored.version).read(),
            lambda: next(store.listed(DEFAULT_STORAGE, f"{top}/"), None),
            lambda: put(stored.path, b"x"),
            lambda: store.write(DEFAULT_STORAGE, f"{top}/b", b"x", None),
            lambda: store.remove(DEFAULT_STORAGE, stored.path),
        ):
            with pytest.raises(Forbidden, match=rf"^{top}/.*: ") as error:
                request()
            text = str(error.value)
            assert len(text.splitlines()) == 1 and key not in text and "sig=" not in text and "<" not in text
        reachable.check(DEFAULT_STORAGE, top)


@pytest.mark.parametrize("scheme", ["gs", "s3", "az"])
def test_a_server_that_does_not_answer_is_said_within_seconds(scheme):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        closed = object_servers.free_port()
        for port, reason in ((closed, "Connection refused"), (silent.getsockname()[1], "no answer in time")):
            keys_of_aws = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
            with object_servers.clients_of(keys_of_aws | ENDPOINTS[scheme](f"http://127.0.0.1:{port}")):
                start = time.monotonic()
                with pytest.raises(NoConnection) as error:
                    stores.of(f"{scheme}://photos").ask(DEFAULT_STORAGE, f"{scheme}://photos")
                assert time.monotonic() - start < 12
                assert str(port) in error.value.host and error.value.reason == reason


@contextlib.contextmanager
def through_proxy(server):
    """Yields a proxy between the clients of this process and the server."""
    (variable, value), *_ = [(name, value) for name, value in server.environment.items() if "http://" in value]
    url = re.search(r"http://127\.0\.0\.1:\d+", value)[0]
    with proxy(url) as between, object_servers.clients_of({variable: value.replace(url, between.url)}):
        yield between


@pytest.mark.parametrize("status", [500, 503, 429])
def test_what_a_new_try_may_mend_is_tried_again(server, top, store, status):
    if (server.scheme, status) == ("az", 429):
        pytest.skip("Azure says 503 to those who ask too often")
    stored = put(f"{top}/a.jpg", b"content")
    with through_proxy(server) as between:
        for request, expected in (
            (lambda: store.described(DEFAULT_STORAGE, stored.path), stored),
            (lambda: store.read(DEFAULT_STORAGE, stored.path, stored.version), b"content"),
            (lambda: opened(store, stored), b"content"),
            (lambda: next(store.listed(DEFAULT_STORAGE, f"{top}/")).path, stored.path),
            (lambda: bool(store.write(DEFAULT_STORAGE, f"{top}/{uuid.uuid4()}", b"x", None)), True),
            (lambda: store.copy(DEFAULT_STORAGE, stored.path, f"{top}/b.jpg"), None),
            (lambda: store.remove(DEFAULT_STORAGE, f"{top}/b.jpg"), None),
        ):
            answers = [status]
            between.answer = lambda url, answers=answers: answers.pop() if answers else None
            between.requests.clear()
            assert request() == expected
            assert not answers and len(between.requests) >= 2


def test_what_is_refused_is_not_tried_again(server, top, store):
    stored = put(f"{top}/a.jpg", b"content")
    with through_proxy(server) as between:
        between.answer = lambda url: 403
        for request in (store.described, lambda storage, path: store.read(storage, path, stored.version)):
            between.requests.clear()
            with pytest.raises(Forbidden):
                request(DEFAULT_STORAGE, stored.path)
            assert len(between.requests) == 1


def test_one_request_describes_an_object_and_one_reads_it(server, top, store):
    stored = put(f"{top}/a b/ü?#.jpg", b"content")
    with through_proxy(server) as between:
        store.described(DEFAULT_STORAGE, stored.path)
        between.requests.clear()
        for _ in range(3):
            assert store.read(DEFAULT_STORAGE, stored.path, stored.version) == b"content"
        assert store.described(DEFAULT_STORAGE, stored.path) == stored
        assert len(between.requests) == 4


def test_a_name_that_no_object_has_makes_no_request(server, top, store):
    with through_proxy(server) as between:
        for name, request in itertools.product(
            ("", ".", ".."), (store.described, lambda storage, path: store.read(storage, path, "7"), store.create)
        ):
            with pytest.raises(ValueError, match=f"expected {server.scheme}://BUCKET/NAME of an object"):
                request(DEFAULT_STORAGE, f"{top}/{name}")
        assert between.requests == []


def test_an_upload_that_is_given_up_leaves_nothing(top, store):
    with pytest.raises(KeyError), store.create(DEFAULT_STORAGE, f"{top}/a") as file:
        file.write(b"half")
        raise KeyError
    assert list(store.listed(DEFAULT_STORAGE, f"{top}/")) == []
