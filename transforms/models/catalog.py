"""The models that have a name here: those in the package, and modules of TF-Hub. No TensorFlow."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from transforms.models.preprocessing import NO_CHOICES, Choices
from transforms.models.spec import ModelSpec, digest

_WEIGHTS = Path(__file__).parent / "weights"


@dataclasses.dataclass(frozen=True)
class BundledModel:
    """A model in this package.

    Attributes:
      weights: name of its weights file.
      dimension: components of a vector.
      image_size: default (height, width) in pixels.
      min_size: smallest height or width that the network takes, in pixels.
    """

    weights: str
    dimension: int
    image_size: tuple[int, int]
    min_size: int


@dataclasses.dataclass(frozen=True)
class HubModel:
    """A module of TF-Hub: its handle, and the (height, width) in pixels to use where the module does not state one."""

    handle: str
    image_size: tuple[int, int]


def _imagenet(module: str, size: int) -> HubModel:
    return HubModel(f"https://tfhub.dev/google/imagenet/{module}", (size, size))


BUNDLED = {"efficientnet_lite0": BundledModel("efficientnet_lite0.npz", 1280, (224, 224), 32)}
HUB = {
    "inception_resnet_v2": _imagenet("inception_resnet_v2/feature_vector/4", 299),
    "inception_resnet_v2/3": _imagenet("inception_resnet_v2/feature_vector/3", 299),
    "inception_resnet_v2/1": _imagenet("inception_resnet_v2/feature_vector/1", 299),
    "inception_v2": _imagenet("inception_v2/feature_vector/1", 224),
    "inception_resnet_v2/classification": _imagenet("inception_resnet_v2/classification/4", 299),
    "inception_resnet_v2/classification/3": _imagenet("inception_resnet_v2/classification/3", 299),
    "inception_resnet_v2/classification/1": _imagenet("inception_resnet_v2/classification/1", 299),
    "inception_v2/classification": _imagenet("inception_v2/classification/1", 224),
}
DEFAULT = "efficientnet_lite0"


def bundled(name: str, choices: Choices = NO_CHOICES, normalize: bool = False) -> ModelSpec:
    """Returns the spec of a bundled model, with its defaults where the user chooses nothing.

    Raises:
      ValueError: if the size is too small for the model, or the values are not those that the model computes itself.
    """
    model = BUNDLED[name]
    preprocessing = choices.preprocessing()
    if wrong := preprocessing.changes().keys() & {"mean", "std", "channels"}:
        raise ValueError(
            f"model={name!r} takes pixels in 0..1, RGB: expected no other {' and no other '.join(sorted(wrong))}"
        )
    size = choices.image_size or model.image_size
    if min(size) < model.min_size:
        raise ValueError(f"image_size={size[0]}x{size[1]}: expected at least {model.min_size} pixels for {name!r}")
    files = hashlib.sha256(weights_file(name).read_bytes()).hexdigest()
    return ModelSpec(
        name=name,
        format="bundled",
        location="",
        signature="",
        tags=(),
        dimension=model.dimension,
        image_size=size,
        digest=digest(files, "", (), size, preprocessing, normalize=normalize),
        preprocessing=preprocessing,
        normalize=normalize,
    )


def weights(name: str) -> dict[str, Any]:
    """Returns the weights of a bundled model, name → numpy array."""
    import numpy as np

    with weights_file(name).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def weights_file(name: str) -> Path:
    """Returns the path of a bundled model's weights, a numpy archive of plain arrays."""
    return _WEIGHTS / BUNDLED[name].weights
