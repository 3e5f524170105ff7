"""Trained models → SavedModels: classifiers, and modules that can be used and trained again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

from transforms.models import notes

# Where `transforms.models.class_names` looks for them.
LABELS = "labels.txt"


def write_classifier(model: tf_keras.Sequential, classes: Sequence[str], directory: Path) -> None:
    """Writes a classifier as a SavedModel, and beside it `labels.txt`: a class a line, in the order of the outputs.

    What is written is callable: float32 (n, …), as the model takes it → probabilities, float32 (n, classes); so is its
    signature `serving_default`, whose output is `probabilities`. It has its `variables`, and those of the last layer as
    `kernel`, float32 (d, classes), and `bias`, float32 (classes,). Of a classifier of images the image size is noted.

    Raises:
      OSError: if it cannot be written.
    """
    inputs = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="inputs")

    @tf.function(input_signature=[inputs])
    def classify(inputs: tf.Tensor) -> tf.Tensor:
        return model(inputs, training=False)

    @tf.function(input_signature=[inputs])
    def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": classify(inputs)}

    # A plain object: the Keras model itself would be saved with all that it takes to train it.
    written = tf.train.Checkpoint(variables=list(model.variables), kernel=model.layers[-1].kernel)
    written.bias = model.layers[-1].bias
    written.__call__ = classify
    _save(written, directory, serve)
    (directory / LABELS).write_text("".join(f"{label}\n" for label in classes), encoding="utf-8")
    if len(model.input_shape) == 4:
        _, height, width, _ = model.input_shape
        notes.note(directory, (height, width))


def write_module(module: Any, image_size: tuple[int, int], directory: Path) -> None:
    """Writes a module, with its variables as they are now, as the Reusable SavedModel that it was loaded from.

    Its signature `serving_default` takes `images`, float32 (n, height, width, 3) in [0, 1], and gives `default`,
    float32 (n, d). The image size that it was trained with is noted, even where its `__call__` takes others.

    Args:
      module: as `hub.load` gave it.
      image_size: (height, width) in pixels.
      directory: to make.

    Raises:
      OSError: if it cannot be written.
    """
    for name in ("variables", "trainable_variables", "regularization_losses"):
        if not hasattr(module, name):  # of the interface, each is optional to the module and expected by some user
            setattr(module, name, [])
    for_inference = hub.KerasLayer(module)

    @tf.function(input_signature=[tf.TensorSpec((None, *image_size, 3), tf.float32, name="images")])
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"default": for_inference(images)}

    _save(module, directory, serve)
    notes.note(directory, image_size)


def _save(written: Any, directory: Path, serve: Any) -> None:
    try:
        tf.saved_model.save(written, str(directory), signatures={"serving_default": serve})
    except tf.errors.OpError as error:
        raise OSError(f"cannot write a SavedModel to {str(directory)!r}: {error}") from error
