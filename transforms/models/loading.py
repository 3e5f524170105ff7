"""Loading: `ModelSpec` → `EmbeddingModel`, the one interface behind which every model format stands."""

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from transforms.models import spec as specs
from transforms.models.networks.efficientnet_lite import EfficientNetLite0
from transforms.models.spec import ModelSpec


class EmbeddingModel:
    """A model as the pipeline calls it; safe to call from several threads at once."""

    def __init__(self, embed: Callable[[tf.Tensor], tf.Tensor], image_size: tuple[int, int]):
        """Takes the model's function, float32 (n, height, width, 3) in [0, 1] → float32 (n, dimension).

        That range is TF-Hub's common image signature; a network brings it to its own.
        """
        images = tf.TensorSpec((None, *image_size, 3), tf.uint8)

        # One trace for every batch size; pixels go to the device as bytes, and become floats there.
        @tf.function(input_signature=[images], autograph=False)
        def from_pixels(pixels: tf.Tensor) -> tf.Tensor:
            return embed(tf.cast(pixels, tf.float32) / 255.0)

        self._from_pixels = from_pixels.get_concrete_function()
        self._embed = embed  # holds the variables that the trace refers to

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Images, uint8 (n, height, width, 3) → vectors, float32 (n, dimension)."""
        vectors: npt.NDArray[np.float32] = self._from_pixels(tf.constant(pixels)).numpy()
        return vectors


def load(spec: ModelSpec) -> EmbeddingModel:
    """Returns the model that a spec describes, on the GPU where there is one."""
    _grow_gpu_memory()
    return EmbeddingModel(_LOADERS[spec.name](spec.name), spec.image_size)


def load_efficientnet_lite0(name: str) -> EfficientNetLite0:
    """Returns the network with its ImageNet weights."""
    with specs.weights_file(name).open("rb") as file, np.load(file, allow_pickle=False) as weights:
        return EfficientNetLite0(weights)


_LOADERS: dict[str, Callable[[str], Callable[[tf.Tensor], tf.Tensor]]] = {
    "efficientnet_lite0": load_efficientnet_lite0,
}


@functools.cache
def _grow_gpu_memory() -> None:
    """Lets TensorFlow take GPU memory as it needs it, not all at once: it may not be the only process there."""
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
