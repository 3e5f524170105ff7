"""`ModelSpec`: all that a worker needs to know of a model, and its digest. Data that travels, so no TensorFlow."""

import dataclasses
import hashlib
import json

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
