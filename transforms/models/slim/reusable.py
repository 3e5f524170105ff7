"""Networks as Reusable SavedModels: what TF-Hub's version 4 of an image model is.

The interface is https://www.tensorflow.org/hub/reusable_saved_models with the conventions for images of
https://www.tensorflow.org/hub/common_saved_model_apis/images: `hub.load` gives a callable with `variables`,
`trainable_variables` and `regularization_losses`, and `hub.KerasLayer(…, trainable=True,
arguments=dict(batch_norm_momentum=0.997))` fine-tunes it.
"""

import os
import tempfile
from pathlib import Path

import tensorflow as tf

from transforms.models import notes
from transforms.models.networks.slim_network import DEFAULT_BATCH_NORM_MOMENTUM, SlimNetwork

# The common signatures for images; `serving_default` is the same under the name that serving looks for.
FEATURE_VECTOR_SIGNATURE = "image_feature_vector"
CLASSIFICATION_SIGNATURE = "image_classification"

# What tf.saved_model.save writes, and so what may be deleted to replace a SavedModel.
_SAVED_MODEL_FILE = "saved_model.pb"
_SAVED_MODEL_ENTRIES = {_SAVED_MODEL_FILE, "fingerprint.pb", "variables", "assets", "assets.extra"}

_IMAGES = tf.TensorSpec([None, None, None, 3], tf.float32, name="images")
# Traced as a tensor, any value can be passed after loading, be it a Python float; a value traced would be the only one.
_MOMENTUM = tf.TensorSpec([], tf.float32, name="batch_norm_momentum")


def write_reusable(
    network: SlimNetwork, output: str | os.PathLike[str], classification: bool = False, overwrite: bool = False
) -> Path:
    """Writes `network` as a SavedModel into the directory `output`, which appears complete or not at all.

    The model maps images, float32 (n, height, width, 3) in [0, 1], to feature vectors, float32 (n, features), or with
    `classification` to logits, float32 (n, classes).

    Returns:
      The absolute path of the directory.

    Raises:
      FileExistsError, ValueError: as `check_output` does.
      OSError: if the directory cannot be written.
    """
    path = check_output(output, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
        # One level down: the directory that `tempfile` made is its owner's alone, the model should not be.
        model = Path(scratch) / "model"
        try:
            _save(network, model, classification)
        except tf.errors.OpError as error:
            raise OSError(f"cannot write the SavedModel for output={str(path)!r}: {error}") from error
        check_output(path, overwrite)  # minutes have passed
        _put_in_place(model, path, replaced=Path(scratch) / "replaced")
    return path


def check_output(output: str | os.PathLike[str], overwrite: bool) -> Path:
    """Returns the absolute path of `output` if a SavedModel may be written there.

    Raises:
      FileExistsError: if it exists and `overwrite` is false, or it is anything but an empty directory or a SavedModel.
      ValueError: if it is a URI.
    """
    name = os.fspath(output)
    if "://" in name:
        raise ValueError(f"output={name!r} is a URI: expected a local directory; copy the SavedModel there afterwards")
    path = Path(os.path.abspath(name))  # noqa: PTH100  (Path.resolve would follow a link, and the link is what is replaced)
    if not os.path.lexists(path):
        return path
    if not overwrite:
        raise FileExistsError(
            f"output={str(path)!r} exists: choose another directory, or overwrite it (overwrite=True, --overwrite)"
        )
    entries = {entry.name for entry in path.iterdir()} if path.is_dir() else {path.name}
    if entries and (_SAVED_MODEL_FILE not in entries or not entries <= _SAVED_MODEL_ENTRIES):
        raise FileExistsError(
            f"output={str(path)!r} holds more than a SavedModel, or none, and overwriting would delete it all: "
            "choose another directory, or remove it yourself"
        )
    return path


def _save(network: SlimNetwork, directory: Path, classification: bool) -> None:
    @tf.function(autograph=False)
    def call(
        images: tf.Tensor, training: bool = False, batch_norm_momentum: float | tf.Tensor = DEFAULT_BATCH_NORM_MOMENTUM
    ) -> tf.Tensor:
        features = network(images, training, batch_norm_momentum)
        return network.logits(features, training) if classification else features

    @tf.function(input_signature=[], autograph=False)
    def regularization_loss() -> tf.Tensor:
        return network.regularization_loss()

    @tf.function(input_signature=[_IMAGES], autograph=False)
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"default": call(images, False, tf.constant(DEFAULT_BATCH_NORM_MOMENTUM))}

    for training in (False, True):
        call.get_concrete_function(_IMAGES, training=training, batch_norm_momentum=_MOMENTUM)

    # A plain object to hang the interface on: tf.Module computes `variables` itself, and would not save them as a list.
    reusable = tf.train.Checkpoint(
        variables=list(network.variables),
        trainable_variables=list(network.trainable_variables),
        regularization_losses=[regularization_loss],
    )
    reusable.__call__ = call
    signature = CLASSIFICATION_SIGNATURE if classification else FEATURE_VECTOR_SIGNATURE
    tf.saved_model.save(reusable, os.fspath(directory), signatures={"serving_default": serve, signature: serve})
    notes.note(directory, image_size=network.IMAGE_SIZE)


def _put_in_place(model: Path, path: Path, replaced: Path) -> None:
    """Renames `model` to `path`; what is there moves to `replaced` first, and back if the second step fails."""
    occupied = os.path.lexists(path)
    if occupied:
        path.rename(replaced)
    try:
        model.rename(path)
    except OSError:
        if occupied:
            replaced.rename(path)
        raise
