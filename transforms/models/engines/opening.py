"""Opening: `ModelSpec` → a TensorFlow function, for every model format."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from transforms.elements.one_line import one_line
from transforms.models import catalog, checked_copy, hub, keras_file
from transforms.models.engines import device
from transforms.models.engines.fixed_batches import Pixels, Vectors
from transforms.models.networks.efficientnet_lite import EfficientNetLite0
from transforms.models.preprocessing import Preprocessing
from transforms.models.spec import ModelSpec


@dataclasses.dataclass(frozen=True)
class Opened:
    """A model in TensorFlow.

    Attributes:
      function: a concrete function, uint8 (n, height, width, 3) → float32 (n, dimension).
      loaded: the loaded object, which holds the variables and keeps them alive.
    """

    function: Any
    loaded: Any

    def __call__(self, pixels: Pixels) -> Vectors:
        vectors: Vectors = self.function(tf.constant(pixels)).numpy()
        return vectors

    def parameters(self) -> int:
        """Returns the number of scalars in the model's variables.

        A SavedModel need not list them. If it does not, those that the function uses are counted.
        """
        variables = getattr(self.loaded, "variables", None)
        return sum(int(np.prod(variable.shape)) for variable in (variables or self.function.variables))


def open_model(spec: ModelSpec) -> Opened:
    """Returns a model in TensorFlow, neither compiled nor warmed up.

    A second call for the same model returns the same object.

    Raises:
      ValueError: if the model cannot be obtained, or does not map images to vectors.
    """
    return _open(spec.for_opening(), checked_copy.memory_key(spec))


@functools.lru_cache(maxsize=1)
def _open(spec: ModelSpec, files_state: object) -> Opened:
    device.has_gpu()  # sets memory growth, which has to precede the first use of the GPU
    loaded = _LOADERS[spec.format](spec)

    # One trace serves every batch size. Pixels go to the device as bytes and become floats there.
    @tf.function(input_signature=[tf.TensorSpec((None, *spec.image_size, 3), tf.uint8)], autograph=False)
    def from_pixels(pixels: tf.Tensor) -> tf.Tensor:
        return loaded.embed(values(pixels, spec.preprocessing, as_bytes=loaded.takes_bytes))

    return Opened(from_pixels.get_concrete_function(), loaded.model)


def values(pixels: tf.Tensor, preprocessing: Preprocessing, *, as_bytes: bool = False) -> tf.Tensor:
    """Returns the values that a network takes for uint8 (n, height, width, 3): float32, or uint8 if `as_bytes`."""
    if preprocessing.channels == "bgr":
        pixels = tf.reverse(pixels, [-1])
    if as_bytes:
        return pixels
    floats = tf.cast(pixels, tf.float32)
    if preprocessing.pixel_range == "0..1":
        return floats / 255.0
    return floats * tf.constant(preprocessing.scale) + tf.constant(preprocessing.offset)


def load_efficientnet_lite0(name: str) -> EfficientNetLite0:
    """Returns the network with its ImageNet weights."""
    return EfficientNetLite0(catalog.weights(name))


def _bundled(spec: ModelSpec) -> hub.Loaded:
    network = _BUNDLED[spec.name](spec.name)
    return hub.Loaded(embed=network, model=network)


def _saved_model(spec: ModelSpec) -> hub.Loaded:
    with checked_copy.files(spec) as path:
        return hub.load(path, spec.signature, spec.tags, spec.location)


def _keras(spec: ModelSpec) -> hub.Loaded:
    with checked_copy.files(spec) as path:
        file = keras_file.read(path)
        if keras_file.KERAS_HUB in file.packages:
            _register_keras_hub(spec.location)
        model = _load_keras(path, spec.location)
    inputs = getattr(model, "input", None)  # a Sequential has none before its first call
    names = list(inputs) if isinstance(inputs, dict) else []

    def embed(images: tf.Tensor) -> tf.Tensor:
        outputs = model(dict.fromkeys(names, images) if names else images, training=False)
        return _pooled(outputs, spec.location, has_class_token=file.has_class_token)

    return hub.Loaded(embed=embed, model=model, takes_bytes=file.takes_bytes)


def _load_keras(path: Path, location: str) -> Any:
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises errors of any class for a file that it does not take
        raise ValueError(
            f"model={location!r}: Keras does not load it in its safe mode, which runs no code of a file "
            f"({one_line(error, 120)}): expected layers of Keras only, no Lambda; if it is your own, export it by "
            "`model.export(DIR)` and give DIR"
        ) from error


def _register_keras_hub(location: str) -> None:
    """Imports KerasHub, which lets Keras find its layers. Raises ValueError if it is not installed."""
    try:
        import keras_hub  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"model={location!r} has layers of KerasHub, which cannot be imported ({one_line(error, 120)}): expected "
            "the package keras-hub here and on the workers, the extra [keras-hub]; or export it by `model.export(DIR)` "
            "and give DIR"
        ) from error


def _pooled(outputs: Any, location: str, *, has_class_token: bool) -> tf.Tensor:
    """Returns the vector of each image, float32 (n, dimension), among the outputs of a Keras model.

    With `has_class_token`, the first token of a sequence, (n, tokens, dimension), stands for the image.

    Raises:
      ValueError: if no output is known to be that.
    """
    if isinstance(outputs, dict):
        name = next((name for name in _POOLED_OUTPUTS if name in outputs), None)
        if name is None:
            raise ValueError(
                f"model={location!r} has the outputs {', '.join(sorted(outputs))}, and none of "
                f"{', '.join(_POOLED_OUTPUTS)}: save a model whose only output is one vector per image"
            )
        outputs = outputs[name]
    elif isinstance(outputs, list | tuple):
        raise ValueError(  # noqa: TRY004 - a file's content
            f"model={location!r} has {len(outputs)} outputs: save a model whose only output is one vector per image"
        )
    if has_class_token and outputs.shape.rank == 3:
        outputs = outputs[:, 0]
    return tf.cast(outputs, tf.float32)


# The names of an image's vector among the outputs of KerasHub's and Hugging Face's encoders.
_POOLED_OUTPUTS = ("pooled_output", "pooler_output", "image_embeds")

_BUNDLED = {"efficientnet_lite0": load_efficientnet_lite0}

_LOADERS: dict[str, Callable[[ModelSpec], hub.Loaded]] = {
    "bundled": _bundled,
    "tf2": _saved_model,
    "tf1_hub": _saved_model,
    "keras": _keras,
}
