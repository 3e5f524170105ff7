"""--explain: the settings that a command line leads to, and where each comes from."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.flags.options import EmbedConfig, RunsOn
from pipeline.runners import job_checks, pipeline_options, presets, traits
from transforms.decoders.job import ONE_A_CORE


class Setting(NamedTuple):
    """One line of --explain. `source` is `preset <name>`, `flag` or another origin of the value."""

    name: str
    value: str
    source: str


def settings(argv: Sequence[str], config: EmbedConfig, options: PipelineOptions) -> str:
    """Returns the settings that a command line leads to: a line each, with its value and origin."""
    rows = [*_beam_settings(argv, config.runs_on, options), *_own_settings(config, options)]
    name_width = max(len(setting.name) for setting in rows)
    value_width = max(len(setting.value) for setting in rows)
    lines = [f"{name:<{name_width}}  {value:<{value_width}}  {source}".rstrip() for name, value, source in rows]
    try:
        job_checks.check(options, config)
    except ValueError as error:
        lines += ["", f"this job cannot run yet: {error}"]
    return "\n".join(lines)


def _beam_settings(argv: Sequence[str], runs_on: RunsOn, options: PipelineOptions) -> Iterator[Setting]:
    """Yields Beam's options that the preset or the command line sets."""
    user_flags = pipeline_options.on_command_line(argv)
    from_preset = pipeline_options.of_preset(runs_on, user_flags)
    preset = f"preset {runs_on.preset}"
    effective = options.get_all_options()
    names = [name for name in presets.settings(runs_on.preset) if name not in presets.OWN]
    for name in dict.fromkeys([*names, *user_flags]):
        origins = [*([preset] if name in from_preset else []), *(["flag"] if name in user_flags else [])]
        source = " and ".join(origins) or "left out because of --sdk_container_image"
        value = effective.get(name)
        yield Setting(name, ",".join(map(str, value)) if isinstance(value, list) else str(value), source)


def _own_settings(config: EmbedConfig, options: PipelineOptions) -> Iterator[Setting]:
    """Yields this project's settings that a preset has a say in."""
    runs_on = config.runs_on
    preset = f"preset {runs_on.preset}"
    batch_size = config.batch_size
    yield Setting("batch_size", str(batch_size), preset if batch_size == presets.batch_size(runs_on.preset) else "flag")
    processes = presets.CORES if config.decode_processes == ONE_A_CORE else str(config.decode_processes)
    is_default = processes == presets.decode_processes(runs_on.preset)
    yield Setting("decode_processes", processes, preset if is_default else "flag")
    gpus = traits.accelerator(options, runs_on)
    if gpus is None:
        return
    yield Setting("gpu", gpus.gpu, "flag" if runs_on.gpu else preset)
    yield Setting("gpu_count", str(gpus.count), "flag" if runs_on.gpu_count != 1 else preset)
    yield Setting("gpu_machine_type", gpus.machine_type, "flag" if runs_on.gpu_machine_type else "by the GPU")
    yield Setting("accelerator hint", gpus.hint, "gpu, gpu_count, gpu_machine_type")
    if runs_on.separate_gpu_stage:
        yield Setting("accelerator on", "EmbedImages alone", "flag")
    else:
        yield Setting("accelerator on", "reading, decoding and embedding, fused", preset)
