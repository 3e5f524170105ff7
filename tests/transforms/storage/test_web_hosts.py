"""transforms.storage.web_hosts: few requests at a host, connections kept, and silent hosts left alone."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from transforms.storage import web_hosts
from transforms.storage.web_hosts import PER_HOST, BusyHost, Hosts, SilentHost


@pytest.fixture
def hosts():
    return Hosts(itertools.count().__next__)


def soon(seconds=5.0):
    return time.monotonic() + seconds


def test_a_host_has_few_requests_at_once_and_no_other_waits_for_it(hosts):
    ends, most, now = threading.Event(), 0, 0
    lock = threading.Lock()

    def request():
        nonlocal most, now
        with hosts.turn("slow", soon(20)):
            with lock:
                now += 1
                most = max(most, now)
            ends.wait(10)
            with lock:
                now -= 1

    with ThreadPoolExecutor(3 * PER_HOST) as threads:
        calls = [threads.submit(request) for _ in range(3 * PER_HOST)]
        while now < PER_HOST:
            time.sleep(0.01)
        start = time.monotonic()
        with hosts.turn("other", soon()):
            assert time.monotonic() - start < 1
        ends.set()
        for call in calls:
            call.result()
    assert most == PER_HOST


def test_a_handle_goes_back_to_the_host_that_it_is_connected_to(hosts):
    with hosts.turn("a", soon()) as first, hosts.turn("b", soon()) as second:
        pass
    with hosts.turn("a", soon()) as again, hosts.turn("b", soon()) as other:
        assert (again, other) == (first, second)
    with hosts.turn("c", soon()) as taken, hosts.turn("d", soon()), hosts.turn("e", soon()) as new:
        assert taken in (first, second) and new not in (first, second)


def test_a_turn_that_does_not_come_in_time(hosts):
    taken = [hosts.turn("a", soon()) for _ in range(PER_HOST)]
    for turn in taken:
        turn.__enter__()
    with pytest.raises(BusyHost, match="a has no time"), hosts.turn("a", soon(0.05)):
        pass
    taken[0].__exit__(None, None, None)
    with hosts.turn("a", soon(0.05)):
        pass


def test_a_pause_is_kept_by_all_and_waited_for_if_there_is_time(hosts):
    hosts.pause("a", 0.2)
    start = time.monotonic()
    with pytest.raises(BusyHost), hosts.turn("a", soon(0.1)):
        pass
    assert time.monotonic() - start < 0.1
    with hosts.turn("a", soon()):
        assert time.monotonic() - start >= 0.2


def test_a_silent_host_is_asked_once_in_a_while(hosts, monkeypatch):
    monkeypatch.setattr(web_hosts, "_SILENT_SECONDS", 0.1)
    for _ in range(3):
        with hosts.turn("a", soon()):
            hosts.unanswered("a")
    with pytest.raises(SilentHost, match="a has not answered the last 3 requests"), hosts.turn("a", soon()):
        pass
    time.sleep(0.1)
    with hosts.turn("a", soon()):
        with pytest.raises(SilentHost), hosts.turn("a", soon()):  # one request at a time tries it
            pass
        hosts.unanswered("a")
    time.sleep(0.11)
    with pytest.raises(SilentHost), hosts.turn("a", soon()):  # the time has doubled
        pass
    time.sleep(0.1)
    with hosts.turn("a", soon()):
        hosts.answered("a")
    with hosts.turn("a", soon()), hosts.turn("a", soon()):
        pass


def test_those_that_wait_for_a_host_hear_that_it_is_silent(hosts):
    turns = [hosts.turn("a", soon()) for _ in range(PER_HOST)]
    for turn in turns:
        turn.__enter__()
    with ThreadPoolExecutor(1) as threads:
        waits = threads.submit(lambda: hosts.turn("a", soon(20)).__enter__())
        time.sleep(0.05)
        for _ in range(3):
            hosts.unanswered("a")
        with pytest.raises(SilentHost):
            waits.result(timeout=5)


def test_hosts_are_forgotten(hosts, monkeypatch):
    monkeypatch.setattr(web_hosts, "_MOST_HOSTS", 3)
    with hosts.turn("busy", soon()):
        for name in "abcdef":
            with hosts.turn(name, soon()):
                pass
        assert "busy" in hosts._hosts
    for name in "gh":
        with hosts.turn(name, soon()):
            pass
    assert len(hosts._hosts) <= 4
