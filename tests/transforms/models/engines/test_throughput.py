"""transforms.models.engines.throughput: images a second of as many callers as a model takes, once it is warm."""

import threading

import numpy as np
import pytest

from tests.helpers.clocks import Clock
from transforms.models.engines import throughput


class _Model:
    """Takes calls of a second each, in rounds of `calls_at_once`; the first round takes a hundred."""

    def __init__(self, clock, calls_at_once):
        self.calls_at_once = calls_at_once
        self.rounds = 0
        self._clock = clock
        self._round = threading.Barrier(calls_at_once, action=self._pass, timeout=60)

    def _pass(self):
        self._clock.now += 1.0 if self.rounds else 100.0
        self.rounds += 1

    def __call__(self, pixels):
        self._round.wait()


@pytest.mark.parametrize(
    ("calls_at_once", "seconds", "rounds", "rate"), [(1, 3.0, 3, 5), (2, 3.0, 3, 10), (2, 2.5, 3, 10)]
)
def test_all_callers_count_and_the_first_call_does_not(monkeypatch, calls_at_once, seconds, rounds, rate):
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    model = _Model(clock, calls_at_once)
    assert throughput.images_per_second(model, np.zeros((5, 2, 2, 3), np.uint8), seconds) == rate
    assert model.rounds == 1 + rounds
