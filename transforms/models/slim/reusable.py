"""Writes networks as Reusable SavedModels, the format of TF-Hub's version 4 image models.

The interface is https://www.tensorflow.org/hub/reusable_saved_models with the conventions for images of
https://www.tensorflow.org/hub/common_saved_model_apis/images: `hub.load` gives a callable with `variables`,
`trainable_variables` and `regularization_losses`, and `hub.KerasLayer(…, trainable=True,
arguments=dict(batch_norm_momentum=0.997))` fine-tunes it.
"""

import os
from pathlib import Path

import tensorflow as tf

from transforms.models import notes
from transforms.models.networks.slim_network import DEFAULT_BATCH_NORM_MOMENTUM, SlimNetwork
from transforms.storage import complete, locations

# The common signatures for images. `serving_default` is the same function under the name that TF Serving expects.
FEATURE_VECTOR_SIGNATURE = "image_feature_vector"
CLASSIFICATION_SIGNATURE = "image_classification"

# The entries that tf.saved_model.save writes. Only these may be deleted when a SavedModel is replaced.
_SAVED_MODEL_ENTRIES = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}

_IMAGES = tf.TensorSpec([None, None, None, 3], tf.float32, name="images")
# The momentum is traced as a tensor, so that a loaded model takes any value. A traced Python float would be fixed.
_MOMENTUM = tf.TensorSpec([], tf.float32, name="batch_norm_momentum")


def write_reusable(
    network: SlimNetwork, output: str | os.PathLike[str], classification: bool = False, overwrite: bool = False
) -> Path:
    """Writes `network` as a SavedModel into the directory `output`, which appears complete or not at all.

    The model maps images, float32 (n, height, width, 3) in [0, 1], to feature vectors, float32 (n, features). With
    `classification` it maps them to logits, float32 (n, classes).

    Returns:
      The absolute path of the directory.

    Raises:
      complete.Occupied, ValueError: as `check_output` does.
      OSError: if the directory cannot be written.
    """
    path = check_output(output, overwrite)
    with complete.directory(path, named=_named(path), overwrite=overwrite, entries=_SAVED_MODEL_ENTRIES) as part:
        try:
            _save(network, part, classification)
        except tf.errors.OpError as error:
            raise OSError(f"cannot write the SavedModel for {_named(path)}: {error}") from error
    return path


def check_output(output: str | os.PathLike[str], overwrite: bool) -> Path:
    """Returns the absolute path of `output` if a SavedModel may be written there.

    Raises:
      complete.Occupied: if it exists and `overwrite` is false, or it holds anything other than a SavedModel.
      ValueError: if it is a URI.
    """
    name = os.fspath(output)
    if not locations.is_local(name):
        raise ValueError(
            f"output={name!r} is a URI: expected a local directory; copy the SavedModel to the URI afterwards"
        )
    path = Path(os.path.abspath(name))  # noqa: PTH100  (Path.resolve would follow a link; the link itself is replaced)
    complete.check(path, named=_named(path), overwrite=overwrite, entries=_SAVED_MODEL_ENTRIES)
    return path


def _named(path: Path) -> str:
    return f"output={str(path)!r}"


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

    # A plain object carries the interface: tf.Module computes `variables` itself and would not save them as a list.
    reusable = tf.train.Checkpoint(
        variables=list(network.variables),
        trainable_variables=list(network.trainable_variables),
        regularization_losses=[regularization_loss],
    )
    reusable.__call__ = call
    signature = CLASSIFICATION_SIGNATURE if classification else FEATURE_VECTOR_SIGNATURE
    tf.saved_model.save(reusable, os.fspath(directory), signatures={"serving_default": serve, signature: serve})
    notes.write(directory, image_size=network.IMAGE_SIZE)
