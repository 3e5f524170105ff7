"""Loading: `ModelSpec` → `EmbeddingModel`, the one interface behind which every model format and engine stands."""

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from transforms.models import frozen, handles, hub, openvino_engine, tensorflow_engine
from transforms.models import spec as specs
from transforms.models.fixed_batches import FixedBatches, Pixels, Vectors
from transforms.models.networks.efficientnet_lite import EfficientNetLite0
from transforms.models.spec import ModelSpec

BATCH_SIZE_DEFAULT = 32

_LOG = logging.getLogger(__name__)

# How far the vectors of an engine may be from TensorFlow's own, as a part of their length.
_ENGINE_ERROR = {"float32": 1e-3, "bfloat16": 0.2}


class Timed(NamedTuple):
    """Vectors, float32 (n, dimension), and the seconds that their caller waited for others' calls to end."""

    vectors: Vectors
    waited: float


class EmbeddingModel:
    """A model as the pipeline calls it; safe to call from several threads at once."""

    def __init__(self, batches: FixedBatches, calls_at_once: int):
        """Takes the compiled model, and how many threads may be in it at a time; others wait for their turn."""
        self.calls_at_once = calls_at_once
        self._batches = batches
        self._turns = threading.Semaphore(calls_at_once)

    def __call__(self, pixels: Pixels) -> Vectors:
        """Images, uint8 (n, height, width, 3) → vectors, float32 (n, dimension)."""
        return self.timed(pixels).vectors

    def timed(self, pixels: Pixels) -> Timed:
        """Returns what a call returns, and how long it waited to begin."""
        start = time.perf_counter()
        with self._turns:
            waited = time.perf_counter() - start
            return Timed(self._batches(pixels), waited)


class Opened(NamedTuple):
    """A model as TensorFlow has it: a concrete function, uint8 (n, height, width, 3) → float32 (n, dimension).

    `loaded` has its variables, and lives as long as they are needed.
    """

    function: Any
    loaded: Any

    def __call__(self, pixels: Pixels) -> Vectors:
        vectors: Vectors = self.function(tf.constant(pixels)).numpy()
        return vectors

    def parameters(self) -> int:
        """Returns how many numbers the model's variables hold."""
        return sum(int(np.prod(variable.shape)) for variable in self.loaded.variables)


def opened(spec: ModelSpec) -> Opened:
    """Returns a model as TensorFlow has it, neither compiled nor warm; the same one when asked again.

    Raises:
      ValueError: if it is not to be had, or is no function from images to vectors.
    """
    return _opened(spec.format, spec.location or spec.name, spec.signature, spec.tags, spec.image_size)


def load(spec: ModelSpec, batch_size: int = BATCH_SIZE_DEFAULT) -> EmbeddingModel:
    """Returns the model that a spec describes, on the GPU where there is one, warm; the same one when asked again.

    Args:
      spec: the model.
      batch_size: the most images that go to the device at once.

    Raises:
      ValueError: if it is not to be had, is no function from images to vectors, or this machine does not compute in
        its precision.
    """
    # Not the spec itself: while a model is being resolved, what else is in there is not known yet.
    place = (spec.format, spec.location or spec.name, spec.signature, spec.tags, spec.image_size)
    return _load(place, spec.precision, batch_size)


def precisions() -> list[str]:
    """Returns the precisions in which this machine computes, on the GPU where there is one."""
    return tensorflow_engine.precisions() if tensorflow_engine.has_gpu() else openvino_engine.precisions()


Place = tuple[str, str, str, tuple[str, ...], tuple[int, int]]


@functools.lru_cache(maxsize=1)  # a launch that has looked at a model need not load it again for its local workers
def _load(place: Place, precision: str, batch_size: int) -> EmbeddingModel:
    found = _opened(*place)
    image_size = place[-1]
    batches, calls_at_once = _compiled(place, found, precision, batch_size)
    batches(np.zeros((1, *image_size, 3), np.uint8))  # the first call optimizes the graph: that is no batch's time
    return EmbeddingModel(batches, calls_at_once)


def _compiled(place: Place, found: Opened, precision: str, batch_size: int) -> tuple[FixedBatches, int]:
    if precision not in (known := precisions() or ["float32"]):
        raise ValueError(f"precision={precision!r}: this machine computes in {', '.join(known)}")
    if tensorflow_engine.has_gpu() or openvino_engine.openvino is None:
        return _by_tensorflow(found, precision, batch_size)
    model_format, *_, image_size = place
    batch_size, calls = min(batch_size, openvino_engine.BATCH_SIZE_MAX), openvino_engine.calls_at_once()
    try:
        run = openvino_engine.compiled(frozen.graph(found.function), image_size, batch_size, precision, calls)
        batches = FixedBatches(run, batch_size)
        if model_format != "bundled":  # this project's own tests have compared those
            _check_agrees(batches, found, image_size, precision)
    except Exception as error:
        if precision != "float32":
            raise ValueError(f"precision={precision!r}: OpenVINO does not take this model ({error})") from error
        _LOG.warning("by TensorFlow, for OpenVINO does not take this model: %s", error)
        return _by_tensorflow(found, precision, batch_size)
    return batches, calls


def _by_tensorflow(found: Opened, precision: str, batch_size: int) -> tuple[FixedBatches, int]:
    calls = tensorflow_engine.calls_at_once()
    return FixedBatches(tensorflow_engine.compiled(found.function, precision), batch_size), calls


def _check_agrees(batches: FixedBatches, found: Opened, image_size: tuple[int, int], precision: str) -> None:
    """Raises ValueError if an engine gives other vectors than TensorFlow does."""
    height, width = image_size
    coarse = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    pixels = coarse[:, np.arange(height) * 8 // height][:, :, np.arange(width) * 8 // width]
    expected = found(pixels)
    error = np.linalg.norm(batches(pixels) - expected, axis=1)
    if not (error <= _ENGINE_ERROR[precision] * np.linalg.norm(expected, axis=1)).all():
        raise ValueError(f"its vectors differ from TensorFlow's by {error.max()}")


@functools.lru_cache(maxsize=1)
def _opened(
    model_format: str, location: str, signature: str, tags: tuple[str, ...], image_size: tuple[int, int]
) -> Opened:
    tensorflow_engine.has_gpu()  # before anything is put there
    embed, loaded = _LOADERS[model_format](location, signature, tags)

    # One trace for every batch size; pixels go to the device as bytes, and become floats there. [0, 1] is the range of
    # TF-Hub's common image signature, a network brings it to its own.
    @tf.function(input_signature=[tf.TensorSpec((None, *image_size, 3), tf.uint8)], autograph=False)
    def from_pixels(pixels: tf.Tensor) -> tf.Tensor:
        return embed(tf.cast(pixels, tf.float32) / 255.0)

    return Opened(from_pixels.get_concrete_function(), loaded)


def load_efficientnet_lite0(name: str) -> EfficientNetLite0:
    """Returns the network with its ImageNet weights."""
    with specs.weights_file(name).open("rb") as file, np.load(file, allow_pickle=False) as weights:
        return EfficientNetLite0(weights)


def _bundled(name: str, signature: str, tags: tuple[str, ...]) -> tuple[hub.Embed, Any]:
    network = _BUNDLED[name](name)
    return network, network


def _saved_model(location: str, signature: str, tags: tuple[str, ...]) -> tuple[hub.Embed, Any]:
    return hub.load(handles.local_path(location), signature, tags)


def _keras(location: str, signature: str, tags: tuple[str, ...]) -> tuple[hub.Embed, Any]:
    import keras

    model = keras.saving.load_model(handles.local_path(location), compile=False, safe_mode=True)
    return functools.partial(model, training=False), model


_BUNDLED = {"efficientnet_lite0": load_efficientnet_lite0}

_LOADERS: dict[str, Callable[[str, str, tuple[str, ...]], tuple[hub.Embed, Any]]] = {
    "bundled": _bundled,
    "tf2": _saved_model,
    "tf1_hub": _saved_model,
    "keras": _keras,
}
