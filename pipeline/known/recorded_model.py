"""The model of a run, from its report: the same files, function, image size, preprocessing and precision."""

from collections.abc import Mapping
from typing import Any

from transforms.images.resizing import RESIZE_MODES
from transforms.models.preprocessing import Choices, Preprocessing
from transforms.models.spec import ModelSpec, in_precision
from transforms.storage.context import DEFAULT_STORAGE, Storage


def resolve(
    model: Mapping[str, Any], digest: str, storage: Storage = DEFAULT_STORAGE, handle: str | None = None
) -> ModelSpec:
    """Returns the model with a digest.

    Args:
      model: the field `model` of a report.
      digest: of the model, as in the records.
      storage: how buckets are reached.
      handle: where the model is now; None for where the run had it.

    Raises:
      ValueError: if there is another model now, or none.
    """
    from transforms.models import resolve as models

    handle = handle or model["location"] or model["name"]
    height, width = model["image_size"]
    for preprocessing in _preprocessings(model):
        spec = models.resolve(
            handle,
            signature=model["signature"] or None,
            tags=tuple(model["tags"]) or None,
            storage=storage,
            output=model.get("output") or None,  # earlier versions did not write it
            choices=Choices(image_size=(height, width), **vars(preprocessing)),
            normalize=bool(model.get("normalize")),
        )
        spec = in_precision(spec, model["precision"], model.get("precision_cosine"))
        if spec.digest == digest:
            return spec
    raise ValueError(f"{handle!r} is another model now")


def _preprocessings(model: Mapping[str, Any]) -> list[Preprocessing]:
    """Returns the preprocessing of a report. Earlier versions told the resize mode by the digest alone, and no more."""
    if facts := model.get("preprocessing"):
        return [Preprocessing.of_facts(facts)]
    return [Preprocessing(resize_mode=mode) for mode in RESIZE_MODES]
