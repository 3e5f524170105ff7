"""Classifiers over feature vectors, and their training: a module of TF-Hub's kind and a softmax, or a softmax alone.

A module is a Reusable SavedModel (https://www.tensorflow.org/hub/reusable_saved_models): a callable from images,
float32 (n, height, width, 3) in [0, 1], to vectors, float32 (n, d). `hub.KerasLayer` trains it, and adds its
regularization losses to the loss where it is trainable.
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

_MOMENTUM = "batch_norm_momentum"

# A component of the vectors that hardly varies is not blown up to the scale of the others: its standard deviation is
# taken for at least this part of the largest.
_LEAST_DEVIATION = 1e-3
_ROWS_AT_ONCE = 4096


class TrainingError(RuntimeError):
    """A training that led nowhere."""


class Watch(Protocol):
    """Is told how far a training is. `measured` has `loss` and `accuracy`, and `val_…` where there is validation."""

    def batch(self, epoch: int, batch: int, measured: Mapping[str, float]) -> None:
        """Hears of the end of a batch; both are counted from 1, what is measured is the mean of the epoch so far."""

    def epoch(self, epoch: int, measured: Mapping[str, float]) -> None:
        """Hears of the end of an epoch."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a training went.

    Attributes:
      history: `loss`, `accuracy` and with validation `val_loss`, `val_accuracy`, a number an epoch.
      best_epoch: whose weights the model has, counted from 1.
    """

    history: Mapping[str, tuple[float, ...]]
    best_epoch: int


def load_module(directory: str | os.PathLike[str]) -> Any:
    """Returns the module that a SavedModel directory holds.

    Raises:
      ValueError: if there is none, or it is not callable, as those in TF1 Hub format are not.
    """
    name = os.fspath(directory)
    try:
        module = hub.load(name)
    except (ValueError, OSError, RuntimeError, tf.errors.OpError) as error:
        raise ValueError(f"model={name!r} cannot be loaded: expected a SavedModel ({_first_line(error)})") from error
    if getattr(module, "_is_hub_module_v1", False):  # hub.load's own mark
        raise ValueError(
            f"model={name!r} is in TF1 Hub format, which cannot be trained: embed the images with it, and train on the "
            "embeddings"
        )
    if callable(module):
        return module
    raise ValueError(f"model={name!r}: expected a SavedModel that can be called, as TF-Hub's for TensorFlow 2 can")


def fixed_image_size(module: Any) -> tuple[int, int] | None:
    """Returns the (height, width) in pixels that a module's `__call__` fixes, None where it takes any."""
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
      module: as loaded; its variables are trained in place.
      image_size: (height, width) of the images, in pixels.
      classes: how many there are.
      trainable: whether the module is trained too; if not, it runs as for inference.
      batch_norm_momentum: passed to the module's `__call__`: the part of a moving average that a training step keeps.
        None for the module's default.
      seed: of the softmax's first weights and whatever is drawn at random in training, as by the module's dropout.

    Raises:
      ValueError: if the module does not take that, or does not give float32 vectors.
    """
    arguments = {} if batch_norm_momentum is None else {_MOMENTUM: batch_norm_momentum}
    takes = inspect.getfullargspec(module.__call__)
    known = {*takes.args, *takes.kwonlyargs}
    if arguments and _MOMENTUM not in known:
        raise ValueError(f"the model's __call__ takes no {_MOMENTUM}: expected a model that does, or no such flag")
    if trainable and not getattr(module, "trainable_variables", None):
        raise ValueError("the model has no trainable variables: expected some, or a model that stays frozen")
    fixed = fixed_image_size(module)
    if fixed not in (None, image_size):
        raise ValueError(f"the model takes images of {_by(fixed)} pixels only, not image_size={_by(image_size)}")
    has_modes = "training" in known
    dimension = _dimension(module, image_size, arguments | ({"training": False} if has_modes else {}))
    if trainable and has_modes:
        _trace(module, image_size, arguments | {"training": True})
    tf_keras.utils.set_random_seed(seed)
    # A graph need not tell how long its vectors are, and the softmax has to know.
    layer = hub.KerasLayer(module, trainable=trainable, arguments=arguments, output_shape=[dimension])
    return tf_keras.Sequential(
        [tf_keras.layers.InputLayer((*image_size, 3)), layer, tf_keras.layers.Dense(classes, activation="softmax")]
    )


def vector_classifier(
    vectors: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], classes: int, *, seed: int = 0
) -> tf_keras.Sequential:
    """Returns a softmax over vectors, float32 (n, d), which it brings to mean 0 and variance 1 first.

    Args:
      vectors: float32 (n, d).
      rows: the numbers of the vectors to train on, which alone decide on that mean and variance.
      classes: how many there are.
      seed: of the softmax's first weights.
    """
    tf_keras.utils.set_random_seed(seed)
    total, squares = np.zeros(vectors.shape[1]), np.zeros(vectors.shape[1])
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        chunk = vectors[rows[start : start + _ROWS_AT_ONCE]].astype(np.float64)
        total += chunk.sum(axis=0)
        squares += (chunk**2).sum(axis=0)
    mean = total / len(rows)
    variance = np.maximum(squares / len(rows) - mean**2, 0.0)
    variance = np.maximum(variance, _LEAST_DEVIATION**2 * variance.max()) if variance.any() else np.ones_like(variance)
    return tf_keras.Sequential(
        [
            tf_keras.layers.InputLayer((vectors.shape[1],)),
            tf_keras.layers.Normalization(mean=mean, variance=variance),
            tf_keras.layers.Dense(classes, activation="softmax"),
        ]
    )


def vector_batches(
    vectors: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int32],
    batch_size: int,
    seed: int | None,
) -> tf.data.Dataset:
    """Returns (vectors, float32 (n, d); class numbers, int32 (n,)).

    Args:
      vectors: float32 (all, d); they stay where they are, and are picked batch by batch.
      rows: which of them.
      numbers: the class of each of `rows`.
      batch_size: vectors a batch.
      seed: of their order, a new one each epoch; None to keep them in order.
    """
    picked = tf.data.Dataset.from_tensor_slices((rows, numbers))
    if seed is not None:
        picked = picked.shuffle(len(rows), seed=seed, reshuffle_each_iteration=True)

    def pick(batch: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = tf.numpy_function(lambda batch: vectors[batch], [batch], tf.float32)
        return tf.ensure_shape(chosen, (None, vectors.shape[1])), numbers

    return picked.batch(batch_size).map(pick).prefetch(2)


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
    """Trains a classifier with Adam on the cross-entropy, and leaves it with the weights of its best epoch.

    Args:
      model: a classifier, trained in place.
      training, validation: batches of inputs and class numbers. The best epoch is the one with the least validation
        loss; without validation it is the last.
      epochs: at most so many times over the training data.
      learning_rate: Adam's.
      patience: the epochs without a better one after which training ends; of no effect without validation.
      watch: is told of the progress.

    Raises:
      TrainingError: if the loss is not finite.
    """
    model.compile(tf_keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    told = _Told(watch)
    callbacks = [tf_keras.callbacks.TerminateOnNaN(), told]
    stopping = tf_keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True)
    if validation is not None:
        callbacks.append(stopping)
    history = model.fit(training, validation_data=validation, epochs=epochs, callbacks=callbacks, verbose=0).history
    if not all(math.isfinite(value) for values in history.values() for value in values):
        epoch = len(history["loss"])
        raise TrainingError(f"the loss is not finite after epoch {epoch}: try a lower learning rate")
    best_epoch = len(history["loss"]) if validation is None else stopping.best_epoch + 1
    return Fit({name: tuple(map(float, values)) for name, values in history.items()}, best_epoch)


class _Told(tf_keras.callbacks.Callback):
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


def _dimension(module: Any, image_size: tuple[int, int], arguments: Mapping[str, Any]) -> int:
    """Returns the length of a module's vectors, by calling it as for inference; raises ValueError where it has none."""
    call = _trace(module, image_size, arguments)
    try:
        given = call(tf.zeros((2, *image_size, 3)))
    except tf.errors.OpError as error:
        raise _uncallable(image_size, arguments, error) from error
    if not tf.is_tensor(given) or given.dtype != tf.float32 or given.shape.rank != 2 or given.shape[0] != 2:
        described = f"{given.dtype.name}{given.shape}" if tf.is_tensor(given) else f"a {type(given).__name__}"
        raise ValueError(f"the model gives {described} for 2 images: expected a vector an image, float32(2, d)")
    return int(given.shape[1])


def _trace(module: Any, image_size: tuple[int, int], arguments: Mapping[str, Any]) -> Any:
    """Returns a call of a module as a function of images, without having run it: in training that moves averages."""
    images = tf.TensorSpec((None, *image_size, 3), tf.float32)
    try:
        return tf.function(
            lambda images: module(images, **arguments), [images], autograph=False
        ).get_concrete_function()
    except (TypeError, ValueError, tf.errors.OpError) as error:
        raise _uncallable(image_size, arguments, error) from error


def _uncallable(image_size: tuple[int, int], arguments: Mapping[str, Any], error: Exception) -> ValueError:
    given = "".join(f", {name}={value!r}" for name, value in arguments.items())
    return ValueError(f"the model cannot be called with images of {_by(image_size)}{given}: {_first_line(error)}")


def _by(image_size: tuple[int, int] | None) -> str:
    return "{}x{}".format(*image_size) if image_size else "any"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
