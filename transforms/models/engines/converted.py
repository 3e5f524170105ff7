"""Converting: a model that TensorFlow opens → a network of OpenVINO's that gives the same vectors, once a machine."""

import functools

import numpy as np

from transforms.models.engines import cache, openvino_engine
from transforms.models.spec import ModelSpec

# How far the network's vectors may be from TensorFlow's own, as a part of their length, both in float32.
_MOST_ERROR = 1e-3


class NotConvertible(ValueError):
    """OpenVINO does not take a model, or gives other vectors."""


def network(spec: ModelSpec) -> "openvino_engine.openvino.Model":
    """Returns the network of a model; the same one when asked again.

    Raises:
      NotConvertible: if only TensorFlow can run the model; ValueError: if TensorFlow does not open it either.
    """
    return _network(spec.bare())


@functools.lru_cache(maxsize=1)  # a run that compares two precisions compiles it twice
def _network(spec: ModelSpec) -> "openvino_engine.openvino.Model":
    entry = cache.network_entry(spec)
    if found := cache.network(entry):
        return found
    from transforms.models.engines import frozen, opening

    opened = opening.opened(spec)
    try:
        converted = openvino_engine.read(frozen.graph(opened.function))
        _check_agrees(converted, opened, spec.image_size)
    except Exception as error:
        raise NotConvertible(str(error)) from error
    cache.keep_network(entry, converted)
    return cache.network(entry) or converted  # whose weights are in memory only as they are used


def _check_agrees(
    network: "openvino_engine.openvino.Model", opened: openvino_engine.Run, image_size: tuple[int, int]
) -> None:
    """Raises ValueError if a network gives other vectors than TensorFlow does."""
    height, width = image_size
    coarse = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    pixels = coarse[:, np.arange(height) * 8 // height][:, :, np.arange(width) * 8 // width]
    right = opened(pixels)
    found = openvino_engine.compiled(network, image_size, len(pixels), "float32", 1)(pixels)
    error = np.linalg.norm(found - right, axis=1)
    if not (error <= _MOST_ERROR * np.linalg.norm(right, axis=1)).all():
        raise ValueError(f"its vectors differ from TensorFlow's by {error.max()}")
