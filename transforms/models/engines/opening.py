"""Opening: `ModelSpec` → the model as TensorFlow has it, whatever its format."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from transforms.models import catalog, handles, hub
from transforms.models.engines import device
from transforms.models.engines.fixed_batches import Pixels, Vectors
from transforms.models.networks.efficientnet_lite import EfficientNetLite0
from transforms.models.spec import ModelSpec


@dataclasses.dataclass(frozen=True)
class Opened:
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
    return _opened(spec.bare())


@functools.lru_cache(maxsize=1)
def _opened(spec: ModelSpec) -> Opened:
    device.has_gpu()  # before anything is put there
    embed, loaded = _LOADERS[spec.format](spec.location or spec.name, spec.signature, spec.tags)

    # One trace for every batch size; pixels go to the device as bytes, and become floats there. [0, 1] is the range of
    # TF-Hub's common image signature, a network brings it to its own.
    @tf.function(input_signature=[tf.TensorSpec((None, *spec.image_size, 3), tf.uint8)], autograph=False)
    def from_pixels(pixels: tf.Tensor) -> tf.Tensor:
        return embed(tf.cast(pixels, tf.float32) / 255.0)

    return Opened(from_pixels.get_concrete_function(), loaded)


def load_efficientnet_lite0(name: str) -> EfficientNetLite0:
    """Returns the network with its ImageNet weights."""
    return EfficientNetLite0(catalog.weights(name))


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
