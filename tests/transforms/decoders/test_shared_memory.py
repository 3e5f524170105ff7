"""transforms.decoders.shared_memory: what one process writes, the other one sees."""

import os
import time

import numpy as np
import pytest

from transforms.decoders import shared_memory
from transforms.decoders.shared_memory import SharedMemory


@pytest.fixture
def both():
    """Returns the memory of a worker, and of its decoder process."""
    descriptor = shared_memory.create()
    both = [SharedMemory(descriptor, 2, 3, (4, 5)) for _ in range(2)]
    os.close(descriptor)
    return both


def test_pixels_written_by_a_decoder_are_seen_by_the_worker(both):
    worker, decoder = both
    assert worker.pixels.shape == (2, 3, 4, 5, 3) and worker.pixels.dtype == np.uint8
    decoder.pixels[1, 2] = 7
    assert worker.pixels.sum() == worker.pixels[1, 2].sum() == 7 * 60


def test_the_image_at_work(both):
    worker, decoder = both
    assert worker.at_work() is None
    decoder.begin(3, 1)
    slot, image, seconds = worker.at_work()
    assert (slot, image) == (3, 1) and 0 <= seconds < 60
    with decoder.waiting():
        assert worker.at_work() is None
    assert worker.at_work()[:2] == (3, 1)
    decoder.end()
    assert worker.at_work() is None


def test_whether_a_process_runs(both, monkeypatch):
    worker, decoder = both
    assert worker.silent_seconds() == 0  # it has yet to start
    now = time.monotonic()
    decoder.beat()
    monkeypatch.setattr(time, "monotonic", lambda: now + 100)
    assert 99 < worker.silent_seconds() <= 100


def test_without_memfd(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    descriptor = shared_memory.create()
    SharedMemory(descriptor, 1, 1, (1, 1)).pixels[:] = 9
    assert SharedMemory(descriptor, 1, 1, (1, 1)).pixels.sum() == 27
    os.close(descriptor)


def test_the_time_of_waiting_does_not_count(both, monkeypatch):
    worker, decoder = both
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    decoder.begin(3, 1)
    now += 50
    assert worker.at_work() == (3, 1, 50)
    with decoder.waiting():
        now += 1000
    assert worker.at_work() == (3, 1, 0)
    now += 7
    assert worker.at_work() == (3, 1, 7)


@pytest.mark.parametrize("has_memfd", [True, False])
def test_only_the_process_that_is_meant_gets_the_memory(monkeypatch, has_memfd):
    if not has_memfd:
        monkeypatch.delattr(os, "memfd_create")
    descriptor = shared_memory.create()
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_the_second_to_open_the_memory_changes_nothing():
    descriptor = shared_memory.create()
    first = SharedMemory(descriptor, 2, 3, (4, 5))
    first.begin(3, 0)
    first.pixels[:] = 9
    second = SharedMemory(descriptor, 2, 3, (4, 5))
    os.close(descriptor)
    assert second.at_work()[:2] == (3, 0) and second.pixels.min() == 9
