"""Runs a model with TensorFlow, on a GPU, or on the CPU where OpenVINO cannot run it."""

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from transforms.cores import usable_cores
from transforms.models.engines import device, frozen
from transforms.models.engines.fixed_batches import OutOfDeviceMemory, Pixels, Vectors

# The GPU copies one batch while it computes another.
_GPU_CALLS_AT_ONCE = 2


def compile_function(function: Any, precision: str) -> Callable[[Pixels], Vectors]:
    """Returns a function, uint8 (n, height, width, 3) → float32 (n, dimension), that raises OutOfDeviceMemory.

    Args:
      function: a concrete function of TensorFlow from pixels to vectors. It is frozen where possible.
      precision: `float32`, or on a GPU `float16`. TensorFlow then computes in float16 those operations that its "auto
        mixed precision" considers safe (https://www.tensorflow.org/guide/graph_optimization).
    """
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision": precision == "float16"})
    with contextlib.suppress(Exception):  # a function that cannot be frozen runs unchanged
        function = frozen.function(function)

    def run(pixels: Pixels) -> Vectors:
        try:
            output = function(tf.constant(pixels))
        except tf.errors.ResourceExhaustedError as error:
            raise OutOfDeviceMemory(str(error)) from error
        vectors: Vectors = (output[0] if isinstance(output, list) else output).numpy()
        return vectors

    return run


def calls_at_once() -> int:
    """Returns the number of concurrent calls that keeps the device busy."""
    return _GPU_CALLS_AT_ONCE if device.has_gpu() else usable_cores()
