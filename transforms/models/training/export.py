"""Trained models → SavedModels: classifiers, and modules that can be trained further."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

from transforms.models import notes

# The file that `transforms.models.class_names` reads.
LABELS = "labels.txt"


def write_classifier(model: tf_keras.Sequential, classes: Sequence[str], directory: Path) -> None:
    """Writes a classifier as a SavedModel with a `labels.txt`: one class per line, in the order of the outputs.

    The SavedModel is callable: float32 (n, …), the model's inputs → probabilities, float32 (n, classes). Its signature
    `serving_default` does the same, with the output `probabilities`. The SavedModel has the model's `variables`. Those
    of the last layer are also `kernel`, float32 (d, classes), and `bias`, float32 (classes,). A classifier of images
    gets a note with its image size.

    Raises:
      OSError: if the directory cannot be written.
    """
    inputs = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="inputs")

    @tf.function(input_signature=[inputs])
    def classify(inputs: tf.Tensor) -> tf.Tensor:
        return model(inputs, training=False)

    @tf.function(input_signature=[inputs])
    def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": classify(inputs)}

    # A plain object, because TensorFlow would save a Keras model with everything that training needs.
    saved = tf.train.Checkpoint(variables=list(model.variables), kernel=model.layers[-1].kernel)
    saved.bias = model.layers[-1].bias
    saved.__call__ = classify
    _save(saved, directory, serve)
    (directory / LABELS).write_text("".join(f"{label}\n" for label in classes), encoding="utf-8")
    if len(model.input_shape) == 4:
        _, height, width, _ = model.input_shape
        notes.write(directory, (height, width))


def write_module(module: Any, image_size: tuple[int, int], directory: Path) -> None:
    """Writes a module with the current values of its variables, as a Reusable SavedModel like the one it came from.

    Its signature `serving_default` takes `images`, float32 (n, height, width, 3) in [0, 1], and returns `default`,
    float32 (n, d). The note beside it has the image size of the training, even where its `__call__` takes others.

    Raises:
      OSError: if the directory cannot be written.
    """
    for name in ("variables", "trainable_variables", "regularization_losses"):
        if not hasattr(module, name):  # optional in the interface, but some users read them
            setattr(module, name, [])
    for_inference = hub.KerasLayer(module)

    @tf.function(input_signature=[tf.TensorSpec((None, *image_size, 3), tf.float32, name="images")])
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"default": for_inference(images)}

    _save(module, directory, serve)
    notes.write(directory, image_size)


def _save(saved: Any, directory: Path, serve: Any) -> None:
    try:
        tf.saved_model.save(saved, str(directory), signatures={"serving_default": serve})
    except tf.errors.OpError as error:
        raise OSError(f"cannot write a SavedModel to {str(directory)!r}: {error}") from error
