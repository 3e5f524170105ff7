"""The model of a run, from its report: the same files, function, image size, preprocessing and precision."""

from collections.abc import Mapping
from typing import Any

from transforms.images import decoding
from transforms.models.spec import ModelSpec, in_precision


def resolve(
    model: Mapping[str, Any], digest: str, billing_project: str | None = None, handle: str | None = None
) -> tuple[ModelSpec, str]:
    """Returns the model with a digest, and how it resizes images, which a report tells by the digest alone.

    Args:
      model: the field `model` of a report.
      digest: of the model, as in the records.
      billing_project: the project that pays for requests to buckets with requester pays.
      handle: where the model is now; None for where the run had it.

    Raises:
      ValueError: if there is another model now, or none.
    """
    from transforms.models import resolve as models

    handle = handle or model["location"] or model["name"]
    height, width = model["image_size"]
    signature, tags = model["signature"] or None, tuple(model["tags"]) or None
    output = model.get("output") or None  # earlier versions did not write it
    for resize_mode in decoding.RESIZE_MODES:
        spec = models.resolve(handle, (height, width), resize_mode, signature, tags, billing_project, output)
        spec = in_precision(spec, model["precision"], model.get("precision_cosine"))
        if spec.digest == digest:
            return spec, resize_mode
    raise ValueError(f"{handle!r} is another model now")
