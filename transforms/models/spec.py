"""`ModelSpec`: the facts about a model that a worker needs, and its digest. It is plain data, without TensorFlow."""

import dataclasses
import hashlib
import json
from typing import Any, NamedTuple

from transforms.models.preprocessing import TF_HUB, Preprocessing
from transforms.storage.context import DEFAULT_STORAGE, Storage

PRECISIONS = ("float32", "bfloat16", "float16")


class ModelFields(NamedTuple):
    """The model's part of a record. It is the same in all records of a run.

    Attributes:
      model_name, model_digest: as recorded in `model/name` and `model/digest`.
      dimension: components of a vector.
      classes: names of a classifier's classes; () for feature vectors.
      top_classes: the largest number of best classes in a record.
      facts: the other facts of the model in JSON, for formats that have a place for them; "" if they are not known.
      gives_probabilities: see ModelSpec.
    """

    model_name: str
    model_digest: str
    dimension: int
    classes: tuple[str, ...] = ()
    top_classes: int = 0
    facts: str = ""
    gives_probabilities: bool = False

    @property
    def labels(self) -> int:
        """The number of classes in each record."""
        return min(self.top_classes, len(self.classes))


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The facts about a model that a worker needs.

    Attributes:
      name: as recorded in `model/name`.
      format: `bundled`, `tf2`, `tf1_hub`, `keras`, `onnx`, `openvino` or `tflite`; it selects the loader.
      location: path or URI of the model's files, as a worker reads them; "" for a bundled model.
      signature: the signature to call; "" for a model's own `__call__`.
      tags: the graph variant of a TF1 Hub module.
      dimension: components of a vector.
      image_size: (height, width) of the input images, in pixels.
      digest: hex SHA-256 over the model's files, the signature and tags, and the preprocessing. Vectors with the same
        digest are comparable.
      precision: the precision of the computation, one of PRECISIONS.
      precision_cosine: the smallest cosine between its vectors and those in float32, over the sample images; None where
        it was not measured.
      classes: names of the classes of a classifier's outputs; () for feature vectors.
      gives_probabilities: whether a classifier's outputs are probabilities, as of softmax or sigmoid, and no logits.
      storage: how buckets are reached. It is no property of the model.
      output: the name of the output with the vectors, in a model that has several; else "".
      preprocessing: how pixels become the values that the network takes.
      normalize: whether vectors are scaled to length 1.
      spread: the median cosine between the vectors of different photographs, see `pipeline/model_checks`; None where
        it was not measured. It is no property of the model's function.
      files: hex SHA-256 over the model's files alone, checked where they are loaded; "" for a bundled model.
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
    gives_probabilities: bool = False
    storage: Storage = DEFAULT_STORAGE
    output: str = ""
    preprocessing: Preprocessing = TF_HUB
    normalize: bool = False
    spread: float | None = None
    files: str = ""

    def fields(self, top_classes: int = 0) -> ModelFields:
        """Returns the model's part of a record with at most `top_classes` classes."""
        facts = json.dumps(self.facts() | {"classes": len(self.classes)})
        probabilities = self.gives_probabilities
        return ModelFields(self.name, self.digest, self.dimension, self.classes, top_classes, facts, probabilities)

    def for_opening(self) -> "ModelSpec":
        """Returns a copy without the fields that opening the model does not need.

        Caches of opened models use it as their key: specs that differ only in those fields share an entry.
        """
        return dataclasses.replace(
            self,
            dimension=0,
            digest="",
            precision="float32",
            precision_cosine=None,
            classes=(),
            gives_probabilities=False,
            spread=None,
        )

    def facts(self) -> dict[str, Any]:
        """Returns the fields that a report shows: all of them except `storage`."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "storage"}


def digest(
    files: str,
    signature: str,
    tags: tuple[str, ...],
    image_size: tuple[int, int],
    preprocessing: Preprocessing = TF_HUB,
    output: str = "",
    normalize: bool = False,
) -> str:
    """Returns the digest of a model together with its preprocessing, in hex.

    Args:
      files: hex digest of the model's files.
      signature, tags, image_size, preprocessing, output, normalize: as in ModelSpec. Values of TF-Hub's convention, and
        defaults of fields that an earlier version did not have, do not change the digest.
    """
    use = {
        "files": files,
        "signature": signature,
        "tags": sorted(tags),
        "image_size": image_size,
        "resize_mode": preprocessing.resize_mode,
        "range": [0, 1],
        "precision": "float32",
        **({"output": output} if output else {}),
        **({"normalize": True} if normalize else {}),
        **preprocessing.changes(),
    }
    return hashlib.sha256(json.dumps(use, sort_keys=True).encode()).hexdigest()


def in_precision(spec: ModelSpec, precision: str, cosine: float | None) -> ModelSpec:
    """Returns the spec of the same model in another precision. Its digest differs.

    Args:
      spec: the model in float32.
      precision: one of PRECISIONS.
      cosine: the `precision_cosine` of the result.
    """
    if precision == spec.precision:
        return spec
    digest = hashlib.sha256(f"{spec.digest} in {precision}".encode()).hexdigest()
    return dataclasses.replace(spec, precision=precision, precision_cosine=cosine, digest=digest)
