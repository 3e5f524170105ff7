"""This project's command with a simulated device, which embeds so many images a second and takes no core.

`python -m benchmarks.simulated_device OUTPUT --device_rate R [flags of run_pipeline.py]`. It shows on a machine without
a GPU how fast a GPU the command could feed. As with a GPU, two batches are in flight, and a call waits outside Python's
lock. The device takes one batch after the other: the next one begins when one ends.
"""

import argparse
import functools
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import ours
from pipeline.launch import main

_BATCHES_IN_FLIGHT = 2
_STEP = 16  # of the pixels that make up a vector


class Device:
    """A device with a speed. Thread-safe."""

    def __init__(
        self,
        images_per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._images_per_second = images_per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._idle_from = -np.inf  # the end of the last batch that it was given

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Returns some of the pixels as vectors, once the device has come to these images and has embedded them."""
        with self._lock:
            begins = max(self._idle_from, self._clock())
            ends = self._idle_from = begins + len(pixels) / self._images_per_second
        vectors = pixels[:, ::_STEP, ::_STEP].reshape(len(pixels), -1).astype(np.float32) / 255
        self._sleep(max(0.0, ends - self._clock()))
        return vectors


def replace_models(images_per_second: float) -> None:
    """Makes the command load a model on the device instead of any other."""

    def replace(module: ModuleType) -> None:
        from transforms.models.engines.fixed_batches import FixedBatches

        @functools.cache  # threads share the device
        def load(spec: Any, batch_size: int) -> Any:
            return module.EmbeddingModel([FixedBatches(Device(images_per_second), batch_size)], _BATCHES_IN_FLIGHT)

        module.load = load

    ours.after_import("transforms.models.engines.loading", replace)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("output", type=Path)
    parser.add_argument("--device_rate", type=float, required=True, metavar="R", help="images per second")
    args, flags = parser.parse_known_args()
    ours.record_batches(args.output)
    replace_models(args.device_rate)
    sys.exit(main(flags))
