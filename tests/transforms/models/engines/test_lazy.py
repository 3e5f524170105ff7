"""transforms.models.engines.lazy: loaded once, when it is needed, whoever asks."""

import concurrent.futures

import numpy as np
import pytest

from tests.helpers.clocks import Clock
from transforms.models.engines import lazy
from transforms.models.engines.fixed_batches import BatchResult
from transforms.models.engines.lazy import LazyModel
from transforms.models.engines.loading import EmbeddingModel


def plus_one():
    return EmbeddingModel([lambda pixels: BatchResult(pixels + np.float32(1), {})], 4)


def test_nothing_is_loaded_before_it_is_needed():
    loaded = []
    model = LazyModel(lambda: loaded.append(1) or plus_one())
    assert not loaded
    first, second = model.timed(np.zeros(1)), model.timed(np.ones(1))
    assert (first.vectors, second.vectors, loaded) == (1, 2, [1])
    assert first.loading > 0.0 and second.loading == 0.0


def test_threads_wait_for_one_load(monkeypatch):
    clock, loaded = Clock(), []
    monkeypatch.setattr(lazy, "time", clock)

    def load():
        loaded.append(1)
        if len(loaded) == 1:
            clock.wait_for_reads(4)  # all of them have asked for the model by now
        clock.now += 10.0
        return plus_one()

    model = LazyModel(load)

    def call(number):
        timed = model.timed(np.full(1, number))
        return timed.loading, timed.vectors[0]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert (list(pool.map(call, range(4))), loaded) == ([(10.0, i + 1) for i in range(4)], [1])


def test_a_load_that_failed_is_tried_again():
    found = iter([OSError("not there yet"), plus_one()])

    def load():
        if isinstance(one := next(found), OSError):
            raise one
        return one

    model = LazyModel(load)
    with pytest.raises(OSError, match="not there yet"):
        model.timed(np.zeros(1))
    assert model.timed(np.zeros(1)).vectors == 1
