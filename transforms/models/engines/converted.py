"""Converts a model that TensorFlow opens to an OpenVINO network with the same vectors, once per machine."""

import functools

import numpy as np

from transforms.elements.one_line import one_line
from transforms.models import checked_copy
from transforms.models.engines import cache, mosaics, openvino_engine
from transforms.models.spec import ModelSpec

# The largest distance between the vectors of OpenVINO and TensorFlow, relative to their length, both in float32.
_MAX_RELATIVE_ERROR = 1e-3


class NotConvertible(ValueError):
    """OpenVINO cannot run a model, or returns other vectors than TensorFlow."""


def network(spec: ModelSpec) -> "openvino_engine.openvino.Model":
    """Returns the network of a model. A second call for the same model returns the same object.

    Raises:
      NotConvertible: if only TensorFlow can run the model.
      ValueError: if TensorFlow cannot open the model either.
    """
    return _network(spec.for_opening(), checked_copy.memory_key(spec))


@functools.lru_cache(maxsize=1)  # a run that compares two precisions compiles it twice
def _network(spec: ModelSpec, files_state: object) -> "openvino_engine.openvino.Model":
    entry = cache.network_entry(spec)
    if cached := cache.read_network(entry):
        return cached
    from transforms.models.engines import frozen, opening

    opened = opening.open_model(spec)
    try:
        converted = openvino_engine.read(frozen.graph(opened.function))
        _check_agrees(converted, opened, spec.image_size)
    except (MemoryError, OSError):  # the machine's fault, not the model's
        raise
    except Exception as error:  # both libraries raise errors of any class for a graph
        raise NotConvertible(one_line(error)) from error
    cache.write_network(entry, converted)
    # OpenVINO maps a network that it reads from a file: only the weights in use are in memory.
    return cache.read_network(entry) or converted


def _check_agrees(
    network: "openvino_engine.openvino.Model", opened: openvino_engine.Run, image_size: tuple[int, int]
) -> None:
    """Raises ValueError if a network returns other vectors than TensorFlow."""
    pixels = mosaics.mosaics(2, image_size)
    expected = opened(pixels)
    actual = openvino_engine.compile_network(network, image_size, len(pixels), "float32", 1)(pixels)
    error = np.linalg.norm(actual - expected, axis=1)
    if not (error <= _MAX_RELATIVE_ERROR * np.linalg.norm(expected, axis=1)).all():
        raise ValueError(f"its vectors differ from TensorFlow's by {error.max()}")
