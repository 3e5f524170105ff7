"""Measures the throughput of a model on this machine, with enough concurrent callers to keep the device busy."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from transforms.models.engines import interruptible
from transforms.models.engines.fixed_batches import Pixels

if TYPE_CHECKING:
    from transforms.models.engines.loading import EmbeddingModel


def images_per_second(model: "EmbeddingModel", batch: Pixels, seconds: float) -> float:
    """Returns the images per second of a model, measured for at least `seconds`.

    Every call has the same batch, uint8 (n, height, width, 3). Each caller makes one call before the measurement.
    """
    return interruptible.call(lambda: _measured(model, batch, seconds))


def _measured(model: "EmbeddingModel", batch: Pixels, seconds: float) -> float:
    def call_until(end: float) -> int:
        calls = 1
        model(batch)
        while time.perf_counter() < end:
            model(batch)
            calls += 1
        return calls

    callers = model.calls_at_once
    with ThreadPoolExecutor(callers) as threads:
        list(threads.map(call_until, [0.0] * callers))
        start = time.perf_counter()
        calls = sum(threads.map(call_until, [start + seconds] * callers))
        return calls * len(batch) / (time.perf_counter() - start)
