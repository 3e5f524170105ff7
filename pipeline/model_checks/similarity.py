"""How similar a model's vectors of different photographs are: whether it gets the pixels that it expects.

A network that gets pixels in another range than in its training still runs, but gives nearly the same vector for every
photograph.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.model_checks.sample_pixels import sample_pixels
from transforms.elements.one_line import one_line
from transforms.models.preprocessing import AS_BYTES
from transforms.models.spec import ModelSpec

if TYPE_CHECKING:
    from transforms.models.engines.fixed_batches import Vectors

_LOG = logging.getLogger(__name__)

# Vectors that are more similar hardly distinguish photographs. The similarity of EfficientNet-Lite0 is 0.15.
COLLAPSED_COSINE = 0.98

# The least difference between black and white that a network expects, after its own rescaling.
_LEAST_CONTRAST = 0.05


class Finding(NamedTuple):
    """What the sample images show of a model.

    Attributes:
      similarity: the median cosine between the vectors of different photographs, which reports call `spread`.
      rescaling: the factor by which the network first multiplies the values that it gets; None where it has none, or
        where that is not certain.
    """

    similarity: float
    rescaling: float | None


def finding(model: ModelSpec) -> Finding | None:
    """Returns what the sample images show of a model, in float32. They go through it once per machine and model.

    Returns:
      None for a model in the package, which takes one range, and for one that fails on a sample image.
    """
    if model.format == "bundled":
        return None
    from transforms.models.engines import cache, trial

    entry = cache.finding_entry(model)
    if stored := cache.read_finding(entry):
        return Finding(*stored)
    try:
        measured = Finding(_median_cosine(trial.embed(model, sample_pixels(model))), trial.rescaling(model))
    # The model's own operations raise any class of error. A run over such images counts them as failures.
    except Exception as error:  # noqa: BLE001
        _LOG.warning("the model is not tried on the sample images: %s", one_line(error))
        return None
    cache.write_finding(entry, measured)
    return measured


def _median_cosine(vectors: "Vectors") -> float:
    """Returns the median cosine between different vectors; 1.0 if one of them has no direction."""
    import numpy as np

    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if not np.isfinite(lengths).all() or not lengths.all():
        return 1.0
    unit = vectors / lengths[:, None]
    first, second = np.triu_indices(len(unit), k=1)
    return round(float(np.median((unit[first] * unit[second]).sum(axis=1))), 6)


def too_large(facts: Mapping[str, Any]) -> float | None:
    """Returns the similarity in the field `model` of a report if it is above COLLAPSED_COSINE; else None."""
    value = facts.get("spread")
    return value if isinstance(value, float) and value > COLLAPSED_COSINE else None


def warning(model: ModelSpec, measured: Finding | None) -> str | None:
    """Returns one line if a model seems to get other pixels than it was trained on; None if nothing shows that."""
    if measured is None:
        return None
    preprocessing = model.preprocessing
    pixels = preprocessing.pixels_text()
    contrast = min(1 / std for std in preprocessing.std)
    if measured.rescaling is not None and abs(measured.rescaling) * contrast < _LEAST_CONTRAST:
        return (
            f"warning: model {model.name!r} first multiplies its input by {measured.rescaling:.4g}, which contradicts "
            f"{pixels}: it expects --pixel_range {AS_BYTES} (median cosine between sample images: "
            f"{measured.similarity:.3f})"
        )
    if measured.similarity > COLLAPSED_COSINE:
        ranges = " or ".join(name for name in ("0..1", AS_BYTES, "-1..1") if name != preprocessing.pixel_range)
        return (
            f"warning: model {model.name!r} gives different photographs nearly the same vector (median cosine "
            f"{measured.similarity:.3f}) from {pixels}: if it was trained on others, give --pixel_range {ranges}, or "
            "--pixel_mean and --pixel_std; an untrained model does that too"
        )
    return None
