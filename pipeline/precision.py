"""In which precision a model computes: as asked, or what proves itself on this machine."""

from pathlib import Path
from typing import Any

from pipeline.options import SAMPLES, EmbedConfig
from transforms import images
from transforms.models import spec as specs
from transforms.models.resolve import resolve
from transforms.models.spec import ModelSpec

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
    return specs.in_precision(model, config.precision, None)


def _measured(config: EmbedConfig, model: ModelSpec) -> ModelSpec:
    # From here on it takes TensorFlow.
    from transforms.models import loading

    known = loading.precisions()
    if config.precision != AUTO:
        if config.precision not in known:
            raise ValueError(f"--precision {config.precision}: this machine computes in {', '.join(known)}")
        return _compared(config, model, config.precision)[0]
    for precision in known:
        if precision != model.precision:
            reduced, speed_up = _compared(config, model, precision)
            if (reduced.precision_cosine or 0) >= LEAST_COSINE and speed_up >= LEAST_SPEED_UP:
                return reduced
    return model


def _compared(config: EmbedConfig, model: ModelSpec, precision: str) -> tuple[ModelSpec, float]:
    """Returns the model in that precision, and how many times as fast it is on this machine."""
    import numpy as np

    from transforms.models import loading, throughput

    files = sorted(Path(SAMPLES).parent.glob(Path(SAMPLES).name))
    pixels = np.stack([images.decode(file.read_bytes(), model.image_size, config.resize_mode).pixels for file in files])
    vectors, speeds = [], []
    for spec in (model, specs.in_precision(model, precision, None)):
        loaded = loading.load(spec, config.batch_size)
        vectors.append(loaded(pixels))
        speeds.append(throughput.images_per_second(loaded, pixels, _MEASURED_SECONDS))
    cosine = float(_cosines(*vectors).min())
    return specs.in_precision(model, precision, round(cosine, 6)), speeds[1] / speeds[0]


def _cosines(a: Any, b: Any) -> Any:
    import numpy as np

    return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
