"""`ModelSpec`, and the names that this project knows. No TensorFlow: a spec is data that travels."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

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
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Everything a worker needs to know of a model.

    Attributes:
      name: as recorded in `model/name`.
      format: `bundled`, `tf2`, `tf1_hub` or `keras`; which loader opens it.
      location: where its files are, for a worker; "" for a bundled model.
      signature: the signature to call; "" for a model's own `__call__`.
      tags: the graph variant of a TF1 Hub module.
      dimension: components of a vector.
      image_size: (height, width) of the images it is given, in pixels.
      digest: hex SHA-256 over the model's files, what is called in them, and the preprocessing; vectors with one digest
        are comparable.
      precision: in which it computes, one of PRECISIONS.
      precision_cosine: the smallest cosine of its vectors to those in float32, over the sample images; None where it
        was not measured.
      classes: names of the classes that a classifier's outputs stand for; () for feature vectors.
    """

    name: str
    format: str
    location: str
    signature: str
    tags: tuple[str, ...]
    dimension: int
    image_size: tuple[int, int]
    digest: str
    precision: str = "float32"
    precision_cosine: float | None = 1.0
    classes: tuple[str, ...] = ()

    def bare(self) -> "ModelSpec":
        """Returns what it takes to open the model: two specs of one model that differ elsewhere become equal."""
        return dataclasses.replace(self, dimension=0, digest="", precision="float32", precision_cosine=None, classes=())


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


def digest(files: str, signature: str, tags: tuple[str, ...], image_size: tuple[int, int], resize_mode: str) -> str:
    """Returns the digest of a model as it is used: `files` is that of its files, the rest is how images get to it."""
    use = {
        "files": files,
        "signature": signature,
        "tags": sorted(tags),
        "image_size": image_size,
        "resize_mode": resize_mode,
        "range": [0, 1],
        "precision": "float32",
    }
    return hashlib.sha256(json.dumps(use, sort_keys=True).encode()).hexdigest()


def in_precision(spec: ModelSpec, precision: str, cosine: float | None) -> ModelSpec:
    """Returns a model of float32 as one that computes in another precision, which is another digest.

    Args:
      spec: the model; precision: one of PRECISIONS; cosine: see ModelSpec.
    """
    if precision == spec.precision:
        return spec
    digest = hashlib.sha256(f"{spec.digest} in {precision}".encode()).hexdigest()
    return dataclasses.replace(spec, precision=precision, precision_cosine=cosine, digest=digest)
