"""Any number of images → calls with one batch shape. An engine compiles for a shape once, then only runs the model."""

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

BATCH_SIZE_DEFAULT = 32

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


class OutOfDeviceMemory(RuntimeError):
    """A batch does not fit into the memory of the device."""


class FixedBatches:
    """Calls a model with batches of one size, and pads the last batch. Thread-safe.

    The size is halved whenever a batch does not fit into the memory of the device.
    """

    def __init__(self, run: Callable[[Pixels], Vectors], batch_size: int):
        """Wraps a model.

        Args:
          run: uint8 (n, height, width, 3) → float32 (n, dimension). Raises OutOfDeviceMemory where n is too large.
          batch_size: the first n to try.
        """
        self._run = run
        self._lock = threading.Lock()
        self._batch_size = batch_size

    @property
    def batch_size(self) -> int:
        """The current number of images per call of the model."""
        return self._batch_size

    def __call__(self, pixels: Pixels) -> Vectors:
        """Images, uint8 (n, height, width, 3) → vectors, float32 (n, dimension).

        Raises:
          OutOfDeviceMemory: if not even one image fits.
        """
        outputs: list[Vectors] = []
        done = 0
        while done < len(pixels):
            batch_size = self._batch_size
            batch = pixels[done : done + batch_size]
            try:
                vectors = self._run(_pad(batch, batch_size))
            except OutOfDeviceMemory:
                self._halve(batch_size)
                continue
            outputs.append(vectors[: len(batch)])
            done += len(batch)
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    def _halve(self, too_large: int) -> None:
        if too_large == 1:
            raise OutOfDeviceMemory("not even one image at a time fits into the memory of the device")
        with self._lock:  # another thread may have halved it already
            self._batch_size = min(self._batch_size, too_large // 2)


def _pad(batch: Pixels, batch_size: int) -> Pixels:
    if len(batch) == batch_size:
        return batch
    padded = np.zeros((batch_size, *batch.shape[1:]), np.uint8)
    padded[: len(batch)] = batch
    return padded
