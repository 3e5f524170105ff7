"""The precision that a model computes in: the one of --precision, or with `auto` the best one on this machine."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.flags.options import EmbedConfig
from pipeline.model_checks.sample_pixels import sample_pixels
from transforms.models.model_facts import Function
from transforms.models.resolve import resolve
from transforms.models.spec import ModelSpec, in_precision

if TYPE_CHECKING:
    from transforms.models.engines.loading import EmbeddingModel

AUTO = "auto"

# `auto` takes another precision only if its vectors are at least this near to float32, and it is this much faster.
LEAST_COSINE = 0.999
LEAST_SPEED_UP = 1.1

_MEASURED_SECONDS = 1.0


class Machine(NamedTuple):
    """A machine that embeds: its precisions, and the functions that measure them.

    Attributes:
      precisions: the precisions that it can compute in, float32 first.
      load: a spec and a batch size → the model.
      images_per_second: a model, pixels and the seconds to measure for → its speed.
    """

    precisions: Sequence[str]
    load: "Callable[[ModelSpec, int], EmbeddingModel]"
    images_per_second: "Callable[[EmbeddingModel, Any, float], float]"


def this_machine(model_format: str) -> Machine:
    """Returns the machine that this process runs on, as it computes models of a format."""
    from transforms.models.engines import loading, throughput

    return Machine(loading.precisions(model_format), loading.load, throughput.images_per_second)


def resolved(config: EmbedConfig, is_local: bool, machine: Machine | None = None) -> ModelSpec:
    """Returns the model of a run, in its precision.

    Args:
      config: the configuration of the run.
      is_local: whether this machine embeds. Only then does this function measure.
      machine: the machine to measure; None for the one that this process runs on.

    Raises:
      ValueError: if the model is not available, or if this machine embeds and cannot compute in its precision.
    """
    model = in_float32(config)
    if config.precision == model.precision:
        return model
    return _measured(config, model, machine or this_machine(model.format)) if is_local else unmeasured(config, model)


def in_float32(config: EmbedConfig) -> ModelSpec:
    """Returns the model that the flags describe, in float32. Raises ValueError if it is not available."""
    return resolve(
        config.model,
        config.preprocessing,
        Function(config.model_signature, config.model_tags, config.model_output),
        storage=config.storage,
        normalize=config.normalize,
    )


def unmeasured(config: EmbedConfig, model: ModelSpec) -> ModelSpec:
    """Returns a model in the precision of --precision, for workers on other machines.

    Raises:
      ValueError: if the precision is `auto`.
    """
    if config.precision == AUTO:
        raise ValueError(
            "--precision auto measures the machine it is on, and the workers of this job may be on others: give "
            "float32, bfloat16 for CPUs that have it, or float16 for GPUs"
        )
    return in_precision(model, config.precision, None)


def _measured(config: EmbedConfig, model: ModelSpec, machine: Machine) -> ModelSpec:
    precisions = machine.precisions
    if config.precision not in (AUTO, *precisions):
        raise ValueError(f"--precision {config.precision}: this machine computes in {', '.join(precisions)}")
    candidates = precisions if config.precision == AUTO else [config.precision]
    others = [precision for precision in candidates if precision != model.precision]
    if not others:
        return model
    pixels = sample_pixels(model)
    # Float32 is measured first, because in TensorFlow, loading another precision changes how every model of the process
    # computes.
    in_float32 = machine.load(model, config.batch_size)
    expected = in_float32(pixels)
    if config.precision == AUTO:
        float32_speed = machine.images_per_second(in_float32, pixels, _MEASURED_SECONDS)
    for precision in others:
        in_other = machine.load(in_precision(model, precision, None), config.batch_size)
        cosine = float(_cosines(expected, in_other(pixels)).min())
        measured_spec = in_precision(model, precision, round(cosine, 6))
        if config.precision != AUTO:
            return measured_spec
        if cosine < LEAST_COSINE:
            continue
        other_speed = machine.images_per_second(in_other, pixels, _MEASURED_SECONDS)
        if other_speed >= LEAST_SPEED_UP * float32_speed:
            return measured_spec
    return model


def _cosines(a: Any, b: Any) -> Any:
    import numpy as np

    return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
