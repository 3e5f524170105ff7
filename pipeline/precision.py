"""In which precision a model computes: as asked, or what proves itself on this machine."""

from pathlib import Path
from typing import Any

from pipeline.options import SAMPLES, EmbedConfig
from transforms.images import decoding
from transforms.models.resolve import resolve
from transforms.models.spec import ModelSpec, in_precision

AUTO = "auto"

# What `auto` asks of another precision: vectors as near to those in float32, and so much more speed.
LEAST_COSINE = 0.999
LEAST_SPEED_UP = 1.1

_MEASURED_SECONDS = 1.0


def resolved(config: EmbedConfig, is_local: bool) -> ModelSpec:
    """Returns the model of a run, in its precision.

    Args:
      config: the run; is_local: whether this machine embeds.

    Raises:
      ValueError: if the model is not to be had, or its precision is not, as far as this machine can tell.
    """
    model = resolve(config.model, config.image_size, config.resize_mode, config.model_signature, config.model_tags)
    if config.precision == model.precision:
        return model
    return _measured(config, model) if is_local else unmeasured(config, model)


def unmeasured(config: EmbedConfig, model: ModelSpec) -> ModelSpec:
    """Returns a model in the precision that was asked, for workers elsewhere.

    Raises:
      ValueError: if it is left open.
    """
    if config.precision == AUTO:
        raise ValueError(
            "--precision auto measures the machine it is on, and workers elsewhere may be others: give float32, "
            "bfloat16 for their CPUs or float16 for their GPUs"
        )
    return in_precision(model, config.precision, None)


def _measured(config: EmbedConfig, model: ModelSpec) -> ModelSpec:
    from transforms.models.engines import loading, throughput

    known = loading.precisions()
    if config.precision not in (AUTO, *known):
        raise ValueError(f"--precision {config.precision}: this machine computes in {', '.join(known)}")
    pixels = _samples(model, config.resize_mode)
    for precision in known if config.precision == AUTO else [config.precision]:
        if precision == model.precision:
            continue
        both = model, in_precision(model, precision, None)
        in_float32, in_other = (loading.load(spec, config.batch_size) for spec in both)
        cosine = float(_cosines(in_float32(pixels), in_other(pixels)).min())
        found = in_precision(model, precision, round(cosine, 6))
        if config.precision != AUTO:
            return found
        if cosine < LEAST_COSINE:
            continue
        speeds = [throughput.images_per_second(each, pixels, _MEASURED_SECONDS) for each in (in_float32, in_other)]
        if speeds[1] >= LEAST_SPEED_UP * speeds[0]:
            return found
    return model


def _samples(model: ModelSpec, resize_mode: str) -> Any:
    """Returns the sample images as the model sees them, uint8 (n, height, width, 3)."""
    import numpy as np

    files = sorted(Path(SAMPLES).parent.glob(Path(SAMPLES).name))
    return np.stack([decoding.decode(file.read_bytes(), model.image_size, resize_mode).pixels for file in files])


def _cosines(a: Any, b: Any) -> Any:
    import numpy as np

    return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
