"""The models that this project knows by name: those in the package, and modules of TF-Hub. No TensorFlow."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from transforms.models.spec import ModelSpec, digest

_WEIGHTS = Path(__file__).parent / "weights"


@dataclasses.dataclass(frozen=True)
class BundledModel:
    """A model in this package: its weights' file, the size of its vectors, its image size (height, width)."""

    weights: str
    dimension: int
    image_size: tuple[int, int]
    min_size: int


@dataclasses.dataclass(frozen=True)
class HubModel:
    """A module of TF-Hub: its handle, and the image size (height, width) where the module itself does not tell it."""

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


def bundled(name: str, image_size: tuple[int, int] | None, resize_mode: str) -> ModelSpec:
    """Returns the spec of one of BUNDLED for one way of preparing its images.

    Args:
      name: one of BUNDLED.
      image_size: (height, width) in pixels; None for the model's own.
      resize_mode: how images get that size.

    Raises:
      ValueError: if the model cannot take that size.
    """
    model = BUNDLED[name]
    size = image_size or model.image_size
    if min(size) < model.min_size:
        raise ValueError(f"image_size={size[0]}x{size[1]}: expected at least {model.min_size} pixels for {name!r}")
    files = hashlib.sha256(weights_file(name).read_bytes()).hexdigest()
    return ModelSpec(name, "bundled", "", "", (), model.dimension, size, digest(files, "", (), size, resize_mode))


def weights(name: str) -> dict[str, Any]:
    """Returns the weights of a bundled model by name, as numpy arrays."""
    import numpy as np

    with weights_file(name).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def weights_file(name: str) -> Path:
    """Returns the weights of a bundled model: a numpy archive of plain arrays."""
    return _WEIGHTS / BUNDLED[name].weights
