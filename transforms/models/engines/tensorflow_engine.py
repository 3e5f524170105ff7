"""A function on the device that TensorFlow finds: a GPU, or a CPU for what OpenVINO does not take."""

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from transforms.cores import usable_cores
from transforms.models.engines import device, frozen
from transforms.models.engines.fixed_batches import OutOfDeviceMemory, Pixels, Vectors

# While one batch is on a GPU, the next is copied there.
_GPU_CALLS_AT_ONCE = 2


def compiled(function: Any, precision: str) -> Callable[[Pixels], Vectors]:
    """Returns a function, uint8 (n, height, width, 3) → float32 (n, dimension), that raises OutOfDeviceMemory.

    Args:
      function: a concrete function of TensorFlow's from pixels to vectors; frozen if it can be, as it is otherwise.
      precision: float32; or on a GPU float16, where TensorFlow's own rewriting finds it safe
        (https://www.tensorflow.org/guide/graph_optimization, "auto mixed precision").
    """
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision": precision == "float16"})
    with contextlib.suppress(Exception):  # whatever cannot be frozen runs as it is
        function = frozen.function(function)

    def run(pixels: Pixels) -> Vectors:
        try:
            found = function(tf.constant(pixels))
        except tf.errors.ResourceExhaustedError as error:
            raise OutOfDeviceMemory(str(error)) from error
        vectors: Vectors = (found[0] if isinstance(found, list) else found).numpy()
        return vectors

    return run


def calls_at_once() -> int:
    """Returns how many calls keep the device busy."""
    return _GPU_CALLS_AT_ONCE if device.has_gpu() else usable_cores()
