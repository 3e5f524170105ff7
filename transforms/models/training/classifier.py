"""Classifiers and their training: a softmax over a TF-Hub module, or a softmax over stored feature vectors.

A module is a Reusable SavedModel (https://www.tensorflow.org/hub/reusable_saved_models): a callable from images,
float32 (n, height, width, 3) in [0, 1], to vectors, float32 (n, d). `hub.KerasLayer` trains it. Where the module
is trainable, the layer adds its regularization losses to the loss.
"""

import dataclasses
import inspect
import math
import os
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

from transforms.elements.one_line import one_line

_MOMENTUM = "batch_norm_momentum"

# The lower bound of a component's standard deviation, relative to the largest one. It keeps normalization from
# magnifying the noise of a component that hardly varies.
_MIN_RELATIVE_DEVIATION = 1e-3
_ROWS_PER_CHUNK = 4096


class TrainingError(RuntimeError):
    """A training that diverged."""


class Watch(Protocol):
    """Receives the progress of a training. `measured` has `loss` and `accuracy`, and with validation also `val_…`."""

    def batch(self, epoch: int, batch: int, measured: Mapping[str, float]) -> None:
        """Receives the end of a batch. Both numbers count from 1. `measured` is the mean of the epoch so far."""

    def epoch(self, epoch: int, measured: Mapping[str, float]) -> None:
        """Receives the end of an epoch."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """The result of a training.

    Attributes:
      history: `loss`, `accuracy` and with validation `val_loss`, `val_accuracy`, one number per epoch.
      best_epoch: the epoch whose weights the model has, counted from 1.
    """

    history: Mapping[str, tuple[float, ...]]
    best_epoch: int


def load_module(directory: str | os.PathLike[str]) -> Any:
    """Returns the module in a SavedModel directory.

    Raises:
      ValueError: if there is none, or it is not callable. Modules in TF1 Hub format are not callable.
    """
    name = os.fspath(directory)
    try:
        module = hub.load(name)
    except (ValueError, OSError, RuntimeError, tf.errors.OpError) as error:
        raise ValueError(f"model={name!r} cannot be loaded: expected a SavedModel ({one_line(error)})") from error
    if getattr(module, "_is_hub_module_v1", False):  # set by hub.load
        raise ValueError(
            f"model={name!r} is in TF1 Hub format, which cannot be trained: embed the images with it and train on the "
            "embeddings"
        )
    if callable(module):
        return module
    raise ValueError(f"model={name!r}: expected a SavedModel that can be called, like TF-Hub's for TensorFlow 2")


def fixed_image_size(module: Any) -> tuple[int, int] | None:
    """Returns the (height, width) that a module's `__call__` requires, in pixels; None where it takes any size."""
    for function in getattr(module.__call__, "concrete_functions", ()):
        for spec in tf.nest.flatten(function.structured_input_signature):
            if isinstance(spec, tf.TensorSpec) and spec.shape.rank == 4:
                height, width = spec.shape[1:3]
                return (height, width) if height and width else None
    return None


def image_classifier(
    module: Any,
    image_size: tuple[int, int],
    classes: int,
    *,
    trainable: bool,
    batch_norm_momentum: float | None = None,
    seed: int = 0,
) -> tf_keras.Sequential:
    """Returns a model of two layers: the module, and a softmax over its vectors.

    Args:
      module: from `load_module`. Its variables are trained in place.
      image_size: (height, width) of the images, in pixels.
      classes: number of classes.
      trainable: whether the module is trained too. If not, it runs in inference mode.
      batch_norm_momentum: the share of a moving average that a training step keeps, an argument of the module's
        `__call__`. None for the module's default.
      seed: of the softmax's initial weights and of all random numbers in training, such as the module's dropout.

    Raises:
      ValueError: if the module does not take these arguments, or does not return float32 vectors.
    """
    arguments = {} if batch_norm_momentum is None else {_MOMENTUM: batch_norm_momentum}
    dimension = _checked_dimension(module, image_size, arguments, trainable)
    tf_keras.utils.set_random_seed(seed)
    # A graph need not state the length of its vectors, which the softmax needs.
    layer = hub.KerasLayer(module, trainable=trainable, arguments=arguments, output_shape=[dimension])
    return tf_keras.Sequential(
        [tf_keras.layers.InputLayer((*image_size, 3)), layer, tf_keras.layers.Dense(classes, activation="softmax")]
    )


def vector_classifier(
    vectors: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], classes: int, *, seed: int = 0
) -> tf_keras.Sequential:
    """Returns a softmax over vectors, float32 (n, d). It first normalizes them to mean 0 and variance 1.

    The mean and the variance are those of the training vectors, whose indices are `rows`, int64 (m,). The seed is that
    of the softmax's initial weights.
    """
    tf_keras.utils.set_random_seed(seed)
    mean, variance = _mean_and_variance(vectors, rows)
    if variance.any():
        variance = np.maximum(variance, _MIN_RELATIVE_DEVIATION**2 * variance.max())
    else:
        variance = np.ones_like(variance)
    return tf_keras.Sequential(
        [
            tf_keras.layers.InputLayer((vectors.shape[1],)),
            tf_keras.layers.Normalization(mean=mean, variance=variance),
            tf_keras.layers.Dense(classes, activation="softmax"),
        ]
    )


def _mean_and_variance(
    vectors: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns the mean and the variance of the components of some rows, each float64 (d,), computed chunk by chunk."""
    total, squares = np.zeros(vectors.shape[1]), np.zeros(vectors.shape[1])
    for start in range(0, len(rows), _ROWS_PER_CHUNK):
        chunk = vectors[rows[start : start + _ROWS_PER_CHUNK]].astype(np.float64)
        total += chunk.sum(axis=0)
        squares += (chunk**2).sum(axis=0)
    mean = total / len(rows)
    return mean, np.maximum(squares / len(rows) - mean**2, 0.0)


def vector_batches(
    vectors: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int32],
    batch_size: int,
    seed: int | None,
) -> tf.data.Dataset:
    """Returns a dataset of batches: (vectors, float32 (n, d); class numbers, int32 (n,)).

    Args:
      vectors: float32 (all, d). The dataset does not copy the matrix, and gathers rows batch by batch.
      rows: indices of the vectors in the dataset.
      numbers: the class number of each of `rows`.
      batch_size: vectors per batch.
      seed: of the order, which differs between epochs; None to keep the order of `rows`.
    """
    examples = tf.data.Dataset.from_tensor_slices((rows, numbers))
    if seed is not None:
        examples = examples.shuffle(len(rows), seed=seed, reshuffle_each_iteration=True)

    def gather(batch: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        gathered = tf.numpy_function(lambda batch: vectors[batch], [batch], tf.float32)
        return tf.ensure_shape(gathered, (None, vectors.shape[1])), numbers

    return examples.batch(batch_size).map(gather).prefetch(2)


def fit(
    model: tf_keras.Model,
    training: tf.data.Dataset,
    validation: tf.data.Dataset | None,
    *,
    epochs: int,
    learning_rate: float,
    patience: int,
    watch: Watch,
) -> Fit:
    """Trains a classifier with Adam on the cross-entropy. The classifier ends with the weights of its best epoch.

    The datasets have batches of inputs and class numbers. The best epoch has the least validation loss. Training ends
    after `patience` epochs without a better one. Without validation, the last epoch is the best.

    Raises:
      TrainingError: if the loss is not finite.
    """
    model.compile(tf_keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    callbacks = [tf_keras.callbacks.TerminateOnNaN(), _ProgressCallback(watch)]
    stopping = tf_keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True)
    if validation is not None:
        callbacks.append(stopping)
    history = model.fit(training, validation_data=validation, epochs=epochs, callbacks=callbacks, verbose=0).history
    if not all(math.isfinite(value) for values in history.values() for value in values):
        epoch = len(history["loss"])
        raise TrainingError(f"the loss is not finite after epoch {epoch}: try a lower learning rate")
    best_epoch = len(history["loss"]) if validation is None else stopping.best_epoch + 1
    return Fit({name: tuple(map(float, values)) for name, values in history.items()}, best_epoch)


class _ProgressCallback(tf_keras.callbacks.Callback):
    def __init__(self, watch: Watch):
        super().__init__()
        self._watch = watch
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._watch.batch(self._epoch, batch + 1, logs or {})

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._watch.epoch(epoch + 1, logs or {})


def _checked_dimension(module: Any, image_size: tuple[int, int], arguments: Mapping[str, Any], trainable: bool) -> int:
    """Returns the length of a module's vectors. Raises ValueError if the module does not fit `image_classifier`."""
    signature = inspect.getfullargspec(module.__call__)
    parameters = {*signature.args, *signature.kwonlyargs}
    if arguments and _MOMENTUM not in parameters:
        raise ValueError(f"the model's __call__ takes no {_MOMENTUM}: expected a model that does, or no such flag")
    if trainable and not getattr(module, "trainable_variables", None):
        raise ValueError("the model has no trainable variables: expected some, or a model that stays frozen")
    fixed_size = fixed_image_size(module)
    if fixed_size not in (None, image_size):
        raise ValueError(
            f"the model takes images of {_size_text(fixed_size)} pixels only, not image_size={_size_text(image_size)}"
        )
    has_training_mode = "training" in parameters
    inference = {**arguments, "training": False} if has_training_mode else arguments
    dimension = _dimension(module, image_size, inference)
    if trainable and has_training_mode:
        _trace(module, image_size, {**arguments, "training": True})
    return dimension


def _dimension(module: Any, image_size: tuple[int, int], arguments: Mapping[str, Any]) -> int:
    """Returns the length of a module's vectors, from a call in inference mode. Raises ValueError where it has none."""
    call = _trace(module, image_size, arguments)
    try:
        vectors = call(tf.zeros((2, *image_size, 3)))
    except tf.errors.OpError as error:
        raise _uncallable(image_size, arguments, error) from error
    if not tf.is_tensor(vectors) or vectors.dtype != tf.float32 or vectors.shape.rank != 2 or vectors.shape[0] != 2:
        actual = f"{vectors.dtype.name}{vectors.shape}" if tf.is_tensor(vectors) else f"a {type(vectors).__name__}"
        raise ValueError(f"the model gives {actual} for 2 images: expected one vector per image, float32(2, d)")
    return int(vectors.shape[1])


def _trace(module: Any, image_size: tuple[int, int], arguments: Mapping[str, Any]) -> Any:
    """Returns the call of a module as a function of images. It does not run it: a training call updates averages."""
    images = tf.TensorSpec((None, *image_size, 3), tf.float32)
    try:
        return tf.function(
            lambda images: module(images, **arguments), [images], autograph=False
        ).get_concrete_function()
    except (TypeError, ValueError, tf.errors.OpError) as error:
        raise _uncallable(image_size, arguments, error) from error


def _uncallable(image_size: tuple[int, int], arguments: Mapping[str, Any], error: Exception) -> ValueError:
    others = "".join(f", {name}={value!r}" for name, value in arguments.items())
    return ValueError(f"the model cannot be called with images of {_size_text(image_size)}{others}: {one_line(error)}")


def _size_text(image_size: tuple[int, int] | None) -> str:
    return "{}x{}".format(*image_size) if image_size else "any"
