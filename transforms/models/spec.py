"""`ModelSpec`: all that a worker needs to know of a model, and its digest. Data that travels, so no TensorFlow."""

import dataclasses
import hashlib
import json
from typing import Any, NamedTuple

PRECISIONS = ("float32", "bfloat16", "float16")


class ModelFields(NamedTuple):
    """The model's part of a record: the same in all records of a run.

    Attributes:
      model_name, model_digest: as recorded in `model/name` and `model/digest`.
      dimension: components of a vector.
      classes: names of a classifier's classes; () for feature vectors.
      top_classes: how many of the best classes a record gets, at most.
    """

    model_name: str
    model_digest: str
    dimension: int
    classes: tuple[str, ...] = ()
    top_classes: int = 0

    @property
    def labels(self) -> int:
        """How many classes a record gets."""
        return min(self.top_classes, len(self.classes))


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
      billing_project: who pays for requests to the bucket that it lies in, where the owner does not; no fact of it.
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
    billing_project: str | None = None

    def fields(self, top_classes: int = 0) -> ModelFields:
        """Returns the model's part of a record, with at most so many classes."""
        return ModelFields(self.name, self.digest, self.dimension, self.classes, top_classes)

    def bare(self) -> "ModelSpec":
        """Returns what it takes to open the model: two specs of one model that differ elsewhere become equal."""
        return dataclasses.replace(self, dimension=0, digest="", precision="float32", precision_cosine=None, classes=())

    def facts(self) -> dict[str, Any]:
        """Returns what a report says of the model, which is all but who pays for it."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "billing_project"}


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
