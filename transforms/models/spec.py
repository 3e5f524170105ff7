"""What a `--model` means: `ModelSpec`, and the names this project knows. No TensorFlow: a spec is data that travels."""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path

_WEIGHTS = Path(__file__).parent / "weights"


@dataclasses.dataclass(frozen=True)
class BundledModel:
    """A model in this package: its weights' file, the size of its vectors, its image size (height, width)."""

    weights: str
    dimension: int
    image_size: tuple[int, int]
    min_size: int


BUNDLED = {"efficientnet_lite0": BundledModel("efficientnet_lite0.npz", 1280, (224, 224), 32)}
DEFAULT = "efficientnet_lite0"


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Everything a worker needs to know of a model.

    Attributes:
      name: as recorded in `model/name`.
      dimension: components of a vector.
      image_size: (height, width) of the images it is given, in pixels.
      digest: hex SHA-256 over the model's files and the preprocessing; vectors with one digest are comparable.
      precision: in which it computes.
    """

    name: str
    dimension: int
    image_size: tuple[int, int]
    digest: str
    precision: str = "float32"


def resolve(name: str, image_size: tuple[int, int] | None, resize_mode: str) -> ModelSpec:
    """Returns the spec of a model for one way of preparing its images.

    Args:
      name: one of BUNDLED.
      image_size: (height, width) in pixels; None for the model's own.
      resize_mode: how images get that size.

    Raises:
      ValueError: if there is no such model, or it cannot take that size.
    """
    if name not in BUNDLED:
        raise ValueError(f"model={name!r}: no such model; expected one of {', '.join(BUNDLED)}")
    model = BUNDLED[name]
    size = image_size or model.image_size
    if min(size) < model.min_size:
        raise ValueError(f"image_size={size[0]}x{size[1]}: expected at least {model.min_size} pixels for {name!r}")
    return ModelSpec(name, model.dimension, size, _digest(model.weights, size, resize_mode))


def weights_file(name: str) -> Path:
    """Returns the weights of a bundled model: a numpy archive of plain arrays."""
    return _WEIGHTS / BUNDLED[name].weights


@functools.cache
def _digest(weights: str, size: tuple[int, int], resize_mode: str) -> str:
    preprocessing = {"image_size": size, "resize_mode": resize_mode, "range": [0, 1], "precision": "float32"}
    digest = hashlib.sha256((_WEIGHTS / weights).read_bytes())
    digest.update(json.dumps(preprocessing, sort_keys=True).encode())
    return digest.hexdigest()
