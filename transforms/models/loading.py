"""Loading: `ModelSpec` → `EmbeddingModel`, the one interface behind which every model format stands."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from transforms.models import handles, hub
from transforms.models import spec as specs
from transforms.models.networks.efficientnet_lite import EfficientNetLite0
from transforms.models.spec import ModelSpec


class EmbeddingModel:
    """A model as the pipeline calls it; safe to call from several threads at once."""

    def __init__(self, embed: hub.Embed, image_size: tuple[int, int], loaded: Any):
        """Takes the model's function, float32 (n, height, width, 3) in [0, 1] → float32 (n, dimension).

        Args:
          embed: the function; the range is TF-Hub's common image signature, a network brings it to its own.
          image_size: (height, width) in pixels.
          loaded: the object that has the function's variables, and lives as long as they are needed.
        """
        images = tf.TensorSpec((None, *image_size, 3), tf.uint8)

        # One trace for every batch size; pixels go to the device as bytes, and become floats there.
        @tf.function(input_signature=[images], autograph=False)
        def from_pixels(pixels: tf.Tensor) -> tf.Tensor:
            return embed(tf.cast(pixels, tf.float32) / 255.0)

        self._from_pixels = from_pixels.get_concrete_function()
        self._loaded = loaded

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Images, uint8 (n, height, width, 3) → vectors, float32 (n, dimension)."""
        vectors: npt.NDArray[np.float32] = self._from_pixels(tf.constant(pixels)).numpy()
        return vectors

    def parameters(self) -> int:
        """Returns how many numbers the model's variables hold."""
        return sum(int(np.prod(variable.shape)) for variable in self._loaded.variables)


def load(spec: ModelSpec) -> EmbeddingModel:
    """Returns the model that a spec describes, on the GPU where there is one; the same one when asked again.

    Raises:
      ValueError: if it is not to be had, or is no function from images to vectors.
    """
    return _load(spec.format, spec.location or spec.name, spec.signature, spec.tags, spec.image_size)


@functools.lru_cache(maxsize=1)  # a launch that has looked at a model need not load it again for its local workers
def _load(
    model_format: str, location: str, signature: str, tags: tuple[str, ...], image_size: tuple[int, int]
) -> EmbeddingModel:
    _grow_gpu_memory()
    embed, loaded = _LOADERS[model_format](location, signature, tags)
    model = EmbeddingModel(embed, image_size, loaded)
    model(np.zeros((1, *image_size, 3), np.uint8))  # the first call optimizes the graph: that is no batch's time
    return model


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


@functools.cache
def _grow_gpu_memory() -> None:
    """Lets TensorFlow take GPU memory as it needs it, not all at once: it may not be the only process there."""
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
