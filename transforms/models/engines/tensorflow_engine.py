"""Runs a model with TensorFlow, on a GPU, or on the CPU where OpenVINO cannot run it."""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from transforms.concurrent.cores import usable_cores
from transforms.elements.one_line import one_line
from transforms.models.engines import device, frozen
from transforms.models.engines.fixed_batches import InferenceError, OutOfDeviceMemory, Pixels, Vectors

_LOG = logging.getLogger(__name__)

# The GPU copies one batch while it computes another.
_GPU_CALLS_AT_ONCE = 2

# Messages of errors other than ResourceExhaustedError if a GPU has too little memory: for the copy of a batch
# (https://github.com/tensorflow/tensorflow/issues/7025), and for cuDNN (…/issues/45068, …/issues/60713).
_OUT_OF_MEMORY = ("Dst tensor is not initialized", "No algorithm worked", "CUDNN_STATUS_ALLOC_FAILED")


def compile_function(
    function: Any, precision: str, devices: Sequence[str | None] = (None,)
) -> list[Callable[[Pixels], Vectors]]:
    """Returns a function for each device, uint8 (n, height, width, 3) → float32 (n, dimension).

    Each raises InferenceError, of which OutOfDeviceMemory is one, for the errors of TensorFlow's operations.

    Args:
      function: a concrete function of TensorFlow from pixels to vectors. It is frozen where possible.
      precision: `float32`, or on a GPU `float16`. TensorFlow then computes in float16 those operations that its "auto
        mixed precision" considers safe (https://www.tensorflow.org/guide/graph_optimization). That is an option of the
        process: functions that were compiled before for another precision compute in this one from now on.
      devices: TensorFlow's names of devices, each of which gets a copy of the model; None for TensorFlow's own choice.
    """
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision": precision == "float16"})
    try:
        function = frozen.function(function)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - TensorFlow's internals raise anything, and leave `function` as it is
        _LOG.warning("the model runs with variables because it cannot be frozen: %s", one_line(error))

    def run(pixels: Pixels, device: str | None) -> Vectors:
        try:
            with tf.device(device):
                output = function(tf.constant(pixels))
        except tf.errors.OpError as error:
            kind = OutOfDeviceMemory if _is_out_of_memory(error) else InferenceError
            raise kind(f"{type(error).__name__}: {one_line(error)}") from error
        vectors: Vectors = (output[0] if isinstance(output, list) else output).numpy()
        return vectors

    return [functools.partial(run, device=device) for device in devices]


def _is_out_of_memory(error: tf.errors.OpError) -> bool:
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return True
    return any(words in str(error) for words in _OUT_OF_MEMORY)


def calls_at_once() -> int:
    """Returns the number of concurrent calls that keeps one device busy."""
    return _GPU_CALLS_AT_ONCE if device.has_gpu() else usable_cores()
