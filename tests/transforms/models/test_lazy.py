"""transforms.models.lazy: loaded once, when it is needed, whoever asks."""

import concurrent.futures
import threading

import pytest

from transforms.models.lazy import LazyModel


def test_nothing_is_loaded_before_it_is_needed():
    loaded = []
    model = LazyModel(lambda: loaded.append(1) or (lambda pixels: pixels + 1))
    assert not loaded
    assert model.load() > 0.0
    assert (model(1), model(2), loaded, model.load()) == (2, 3, [1], 0.0)


def test_a_call_loads():
    assert LazyModel(lambda: lambda pixels: -pixels)(4) == -4


def test_threads_wait_for_one_load():
    loaded, begun = [], threading.Barrier(4, timeout=30)

    def load():
        loaded.append(1)
        threading.Event().wait(0.05)  # so that the others come while it is being loaded
        return lambda pixels: pixels

    model = LazyModel(load)

    def call(pixels):
        begun.wait()
        return model.load() >= 0.04, model(pixels)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert (list(pool.map(call, range(4))), loaded) == ([(True, i) for i in range(4)], [1])


def test_a_load_that_failed_is_tried_again():
    found = iter([OSError("not there yet"), lambda pixels: pixels])

    def load():
        if isinstance(one := next(found), OSError):
            raise one
        return one

    model = LazyModel(load)
    with pytest.raises(OSError, match="not there yet"):
        model.load()
    assert model(5) == 5
