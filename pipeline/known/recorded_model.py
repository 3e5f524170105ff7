"""The model of a run, from its report: the same files, function, image size, preprocessing and precision."""

from collections.abc import Mapping
from typing import Any

from transforms.images.resizing import RESIZE_MODES
from transforms.models.model_facts import Function
from transforms.models.preprocessing import Choices, Preprocessing
from transforms.models.resolve import resolve
from transforms.models.spec import ModelSpec, in_precision
from transforms.storage.context import DEFAULT_STORAGE, Storage


def find(
    model: Mapping[str, Any], digest: str, storage: Storage = DEFAULT_STORAGE, handle: str | None = None
) -> ModelSpec:
    """Returns the model of a report, if it is still there.

    Args:
      model: the field `model` of a report.
      digest: that the model has in the records.
      storage: how buckets are reached.
      handle: where the model is now; None for where the run had it.

    Raises:
      ValueError: if there is another model now, or none.
    """
    handle = handle or model["location"] or model["name"]
    height, width = model["image_size"]
    output = model.get("output") or None  # earlier versions did not write it
    function = Function(model["signature"] or None, tuple(model["tags"]) or None, output)
    for preprocessing in _preprocessings(model):
        spec = resolve(
            handle,
            Choices((height, width), **vars(preprocessing)),
            function,
            normalize=bool(model.get("normalize")),
            storage=storage,
        )
        spec = in_precision(spec, model["precision"], model.get("precision_cosine"))
        if spec.digest == digest:
            return spec
    raise ValueError(f"{handle!r} is another model now")


def _preprocessings(model: Mapping[str, Any]) -> list[Preprocessing]:
    """Returns the preprocessings that a report may mean. In earlier versions, only the digest shows the resize mode."""
    if facts := model.get("preprocessing"):
        return [Preprocessing.from_facts(facts)]
    return [Preprocessing(resize_mode=mode) for mode in RESIZE_MODES]
