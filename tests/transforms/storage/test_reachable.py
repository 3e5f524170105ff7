"""transforms.storage.reachable: a server that does not answer is told from one that refuses, and soon."""

import socket
import time

import pytest

from tests.helpers.cloud_storage import clients_of
from tests.helpers.emulators import free_port
from transforms.storage import reachable
from transforms.storage.context import DEFAULT_STORAGE, Storage


@pytest.fixture
def silent():
    """Yields the port of a server that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


def refused(monkeypatch, url):
    """Returns the message about a server, and after how many seconds it came."""
    start = time.monotonic()
    with (
        clients_of(monkeypatch, url),
        pytest.raises(reachable.Unreachable) as error,
    ):
        reachable.check(DEFAULT_STORAGE, "gs://photos/*")
    return str(error.value), time.monotonic() - start


@pytest.mark.slow  # the first tries are repeated for seconds
def test_a_closed_port_is_named_in_seconds(monkeypatch):
    port = free_port()
    message, seconds = refused(monkeypatch, f"http://127.0.0.1:{port}")
    assert message == (
        f"no connection to 127.0.0.1:{port} (Connection refused): check the network or STORAGE_EMULATOR_HOST"
    )
    assert seconds < reachable.PATIENCE + 2


@pytest.mark.slow
def test_a_server_that_never_answers(monkeypatch, silent):
    message, seconds = refused(monkeypatch, f"http://127.0.0.1:{silent}")
    assert message.startswith(f"no connection to 127.0.0.1:{silent} (") and "no answer" in message
    assert seconds < reachable.PATIENCE + 2


@pytest.mark.slow
def test_a_name_that_nobody_knows(monkeypatch):
    message, _ = refused(monkeypatch, "http://nowhere.invalid:80")
    assert message.startswith("no connection to nowhere.invalid:80 (")


def test_all_of_it_is_limited(monkeypatch, silent):
    monkeypatch.setattr(reachable, "PATIENCE", 0.2)
    message, seconds = refused(monkeypatch, f"http://127.0.0.1:{silent}")
    assert "no answer within 0.2 s" in message and seconds < 3


@pytest.mark.parametrize("status", [200, 401, 403, 404])
def test_an_answer_that_refuses_is_an_answer(server, status):
    server.answer = lambda url: None if status == 200 else status
    reachable.check(Storage("payer"), "gs://photos/*")
    assert len(server.requests) == 1 and server.queries()[0]["userProject"] == ["payer"]


def test_a_path_without_a_bucket():
    with pytest.raises(ValueError, match="expected gs://BUCKET/NAME"):
        reachable.check(DEFAULT_STORAGE, "gs://")
