"""transforms.concurrent.in_flight: results in order, so many at once and no more."""

import threading
import time

import pytest

from transforms.concurrent import in_flight
from transforms.concurrent.in_flight import InFlight


class AtOnce:
    """A call that takes a while, and the most of them that went on at once."""

    def __init__(self):
        self.most = self._running = 0
        self._lock = threading.Lock()

    def call(self):
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
        time.sleep(0.02)
        with self._lock:
            self._running -= 1


def test_results_in_the_order_of_the_calls():
    calls = InFlight(4)
    for i in range(4):
        calls.start([lambda i=i: (time.sleep(0.05 * (4 - i)), i)[1]], 0)
    assert not calls.next_is_done()
    assert [calls.take() for _ in range(4)] == [[0], [1], [2], [3]] and len(calls) == 0


def test_an_error_is_raised_where_its_result_is_taken():
    calls = InFlight(2)
    calls.start([lambda: 1 // 0], 0)
    calls.start([lambda: 5], 0)
    with pytest.raises(ZeroDivisionError):
        calls.take()
    assert calls.take() == [5]


def test_room():
    calls, half = InFlight(3), in_flight.MAX_WAITING_BYTES // 2
    assert calls.has_room(10 * half)  # one by itself, whatever its size
    calls.start([lambda: None], half)
    assert calls.has_room(half) and not calls.has_room(half + 1)
    calls.start([lambda: None], 0)
    calls.start([lambda: None], 0)
    assert not calls.has_room(0)
    calls.take()
    assert calls.has_room(2 * half)


def test_the_calls_of_an_element_go_on_together_and_count_each():
    calls, together = InFlight(3), threading.Barrier(3)
    calls.start([lambda i=i: (together.wait(10), i)[1] for i in range(3)], 0)
    assert not calls.has_room(0)
    assert calls.take() == [0, 1, 2] and calls.has_room(0) and len(calls) == 0


def test_all_threads_of_the_process_share_the_threads():
    at_once = AtOnce()
    some = [InFlight(3) for _ in range(4)]
    for calls in some:
        for _ in range(3):
            calls.start([at_once.call], 0)
    for calls in some:
        while calls:
            calls.take()
    assert at_once.most == 3


def test_forgotten_calls_are_not_made():
    calls, made, gate = InFlight(1), [], threading.Event()
    calls.start([gate.wait], 0)
    calls.start([lambda: made.append(1)], 0)
    calls.forget()
    gate.set()
    assert len(calls) == 0
    calls.start([lambda: None], 0)
    calls.take()  # the only thread is past the forgotten call
    assert made == []


def test_a_slow_group_holds_up_no_other():
    calls, ends = InFlight(4), threading.Event()
    for i in range(20):
        assert calls.has_room(0, "slow")
        calls.start([lambda i=i: ends.wait(10) and -i], 0, "slow")
    for i in range(100):
        assert calls.has_room(0, "quick")
        calls.start([lambda i=i: i], 0, "quick")
    start = time.monotonic()
    assert sorted(calls.take() for _ in range(100)) == [[i] for i in range(100)]
    assert time.monotonic() - start < 5 and not calls.next_is_done() and len(calls) == 20
    ends.set()
    assert sorted(-calls.take()[0] for _ in range(20)) == list(range(20)) and len(calls) == 0


def test_a_group_has_half_of_the_threads_whoever_starts_its_calls():
    at_once = AtOnce()
    some = [InFlight(6) for _ in range(3)]
    for calls in some:
        for _ in range(5):
            calls.start([at_once.call], 0, "one")
    for calls in some:
        while calls:
            calls.take()
    assert at_once.most == 3


def test_many_groups_cost_little():
    calls, start = InFlight(64), time.thread_time()
    taken = 0
    for i in range(5000):
        while not calls.has_room(0, f"{i}"):
            calls.take()
            taken += 1
        calls.start([lambda: None], 0, f"{i}")
    while calls:
        calls.take()
        taken += 1
    assert taken == 5000 and time.thread_time() - start < 5  # a millisecond a call, of which it takes a few percent


def test_calls_with_and_without_a_group():
    calls, gate = InFlight(4), threading.Event()
    calls.start([lambda: gate.wait(10) and 1], 0)
    calls.start([lambda: 2], 0)
    calls.start([lambda: 3], 0, "group")
    assert calls.take() == [3]
    gate.set()
    assert [calls.take(), calls.take()] == [[1], [2]]


def test_calls_of_a_group_are_bounded_in_number_and_bytes():
    calls, gate = InFlight(8), threading.Event()
    for _ in range(in_flight._MOST_WAITING + 2):
        assert calls.has_room(0, "one")
        calls.start([gate.wait], in_flight.MAX_WAITING_BYTES // 2, "one")
    assert not calls.has_room(0, "one") and len(calls._of_groups) == 2
    calls.forget()
    gate.set()
    assert len(calls) == 0
    calls.start([lambda: 1 // 0], 0, "one")
    with pytest.raises(ZeroDivisionError):
        calls.take()
    end = time.monotonic() + 10
    while calls._groups._running and time.monotonic() < end:  # the forgotten calls end in their own time
        time.sleep(0.001)
    assert not calls._groups._running


@pytest.mark.parametrize("concurrency", [0, 257])
def test_what_is_possible(concurrency):
    with pytest.raises(ValueError, match=f"read_concurrency={concurrency}: expected from 1 to 256 requests in flight"):
        in_flight.check_concurrency(concurrency)
