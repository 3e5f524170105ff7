"""Any number of images → calls with one batch shape. An engine compiles for a shape once, then only runs the model.

A call that fails is split until each image that causes the failure is alone in a call.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BATCH_SIZE_DEFAULT = 32

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


class InferenceError(RuntimeError):
    """An engine fails on the pixels of a call. The message has the class and the first line of the engine's error.

    It can travel between processes that share a model. The errors of some engines cannot.
    """


class OutOfDeviceMemory(InferenceError):
    """A batch does not fit into the memory of the device."""

    retryable = True  # another device may have enough


class ModelFailure(RuntimeError):
    """A model that fails on every image. It fails the job."""


class BatchResult(NamedTuple):
    """The vectors of some images, and the errors of the others.

    Attributes:
      vectors: float32 (n - len(errors), dimension), of the images without an error, in their order.
      errors: by the index of the image, from 0 to n - 1.
    """

    vectors: Vectors
    errors: dict[int, InferenceError]


class FixedBatches:
    """Calls a model with batches of one size, and pads smaller ones with black images. Thread-safe.

    The size is halved for good whenever a batch does not fit into the memory of the device.

    A batch that fails is halved until each image that causes the failure is alone: at most 2·log₂(batch size)
    further calls per such image. One more call, with black images, shows whether the model still works. If it does,
    the image is at fault, otherwise the model.
    """

    def __init__(self, run: Callable[[Pixels], Vectors], batch_size: int):
        """Wraps a model.

        Args:
          run: uint8 (n, height, width, 3) → float32 (n, dimension). It embeds black images. Raises OutOfDeviceMemory
            where n is too large, and InferenceError where it fails on an image. Any other error fails the job.
          batch_size: the first n to try.
        """
        self._run = run
        self._lock = threading.Lock()
        self._batch_size = batch_size

    @property
    def batch_size(self) -> int:
        """The current number of images per call of the model."""
        return self._batch_size

    def __call__(self, pixels: Pixels) -> BatchResult:
        """Embeds images, uint8 (n, height, width, 3).

        Raises:
          ModelFailure: if the model fails on a black image, which it embedded when it was loaded.
        """
        vectors: list[Vectors] = []
        errors: dict[int, InferenceError] = {}
        ranges = [(0, len(pixels))]  # to embed, the next one last
        while ranges:
            start, stop = ranges.pop()
            batch_size = self._batch_size
            count = stop - start
            if count > batch_size:
                ranges += [(start + batch_size, stop), (start, start + batch_size)]
                continue
            try:
                vectors.append(self._run(_pad(pixels[start:stop], batch_size))[:count])
            except InferenceError as error:
                if isinstance(error, OutOfDeviceMemory) and batch_size > 1:
                    self._halve(batch_size)
                    ranges.append((start, stop))
                elif count > 1:
                    middle = start + count // 2
                    ranges += [(middle, stop), (start, middle)]
                else:
                    errors[start] = error
                    vectors.append(self._embed_black(pixels.shape[1:], batch_size)[:0])
        return BatchResult(vectors[0] if len(vectors) == 1 else np.concatenate(vectors), errors)

    def _embed_black(self, image_shape: tuple[int, ...], batch_size: int) -> Vectors:
        try:
            return self._run(np.zeros((batch_size, *image_shape), np.uint8))
        except InferenceError as error:
            raise ModelFailure(f"the model fails on every image, a black one too: {error}") from error

    def _halve(self, too_large: int) -> None:
        with self._lock:  # another thread may have halved it already
            self._batch_size = min(self._batch_size, too_large // 2)


def _pad(batch: Pixels, batch_size: int) -> Pixels:
    if len(batch) == batch_size:
        return batch
    padded = np.zeros((batch_size, *batch.shape[1:]), np.uint8)  # the model is known to embed black images
    padded[: len(batch)] = batch
    return padded
