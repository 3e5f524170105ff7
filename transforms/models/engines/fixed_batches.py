"""Any number of images → calls of one batch shape: what has seen a shape once has no work left but the model's."""

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
    """Calls a model with batches of just one size, the last one filled up; smaller ones once the device is too small.

    Safe to call from several threads at once.
    """

    def __init__(self, run: Callable[[Pixels], Vectors], batch_size: int):
        """Takes the model.

        Args:
          run: uint8 (n, height, width, 3) → float32 (n, dimension). Raises OutOfDeviceMemory where n is too many.
          batch_size: the n to begin with.
        """
        self._run = run
        self._lock = threading.Lock()
        self._batch_size = batch_size

    @property
    def batch_size(self) -> int:
        """Returns how many images a call of the model has now."""
        return self._batch_size

    def __call__(self, pixels: Pixels) -> Vectors:
        """Images, uint8 (n, height, width, 3) → vectors, float32 (n, dimension).

        Raises:
          OutOfDeviceMemory: if not even one image fits.
        """
        found: list[Vectors] = []
        done = 0
        while done < len(pixels):
            batch_size = self._batch_size
            batch = pixels[done : done + batch_size]
            try:
                vectors = self._run(_filled(batch, batch_size))
            except OutOfDeviceMemory:
                self._halve(batch_size)
                continue
            found.append(vectors[: len(batch)])
            done += len(batch)
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _halve(self, too_large: int) -> None:
        if too_large == 1:
            raise OutOfDeviceMemory("not even one image at a time fits into the memory of the device")
        with self._lock:  # another thread may have found the same
            self._batch_size = min(self._batch_size, too_large // 2)


def _filled(batch: Pixels, batch_size: int) -> Pixels:
    if len(batch) == batch_size:
        return batch
    filled = np.zeros((batch_size, *batch.shape[1:]), np.uint8)
    filled[: len(batch)] = batch
    return filled
