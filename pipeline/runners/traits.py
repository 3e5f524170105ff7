"""The properties of a runner, from Beam's options: where its workers are, and what they have."""

import dataclasses

from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)

from pipeline.flags.options import EmbedConfig, RunsOn
from pipeline.runners import presets
from pipeline.runners.presets import DATAFLOW, LOCAL_RUNNER, ONE_PROCESS, Accelerator
from transforms.storage import locations


@dataclasses.dataclass(frozen=True)
class RunnerTraits:
    """What the graph has to know of the runner.

    Attributes:
      shares_model: whether a machine runs several worker processes, which then share one model to save memory.
      accelerator: a resource hint for the workers of inference; None if they need no GPU.
      in_packs: whether the runner holds in memory what crosses between stages, see packs.
    """

    shares_model: bool = False
    accelerator: str | None = None
    in_packs: bool = False


def of(options: PipelineOptions, runs_on: RunsOn) -> RunnerTraits:
    """Returns the traits of a job's runner. Raises ValueError, see `accelerator`."""
    of_workers = accelerator(options, runs_on)
    return RunnerTraits(_shares_model(options), of_workers.hint if of_workers else None, is_local(options))


def runner(options: PipelineOptions) -> str:
    """Returns the name of the runner's class, without its module."""
    return str(options.view_as(StandardOptions).runner.rsplit(".")[-1])


def is_dataflow(options: PipelineOptions) -> bool:
    return runner(options) == DATAFLOW


def is_on_this_machine(options: PipelineOptions) -> bool:
    """Returns whether the workers are threads of this process, or processes that end with it."""
    return runner(options) == LOCAL_RUNNER.rsplit(".")[-1]


def is_local(options: PipelineOptions) -> bool:
    """Returns whether the workers are threads of this process."""
    in_process = options.view_as(DirectOptions).direct_running_mode != "multi_processing"
    return is_on_this_machine(options) and in_process


def _shares_model(options: PipelineOptions) -> bool:
    if is_on_this_machine(options):
        return not is_local(options)
    if is_dataflow(options):
        return ONE_PROCESS not in (options.view_as(DebugOptions).experiments or [])
    portable = options.view_as(PortableOptions)
    return portable.environment_type != "LOOPBACK" and int(portable.sdk_worker_parallelism) != 1


def accelerator(options: PipelineOptions, runs_on: RunsOn) -> Accelerator | None:
    """Returns the GPUs of the workers that embed; None without --preset dataflow-gpu, or if Dataflow is not the runner.

    Raises:
      ValueError: if there are no such GPUs, or if the machine cannot have them.
    """
    return gpus(runs_on) if runs_on.preset == "dataflow-gpu" and is_dataflow(options) else None


def gpus(runs_on: RunsOn) -> Accelerator:
    """Returns the GPUs of a worker of --preset dataflow-gpu on any runner. Raises ValueError as `accelerator`."""
    return presets.accelerator(runs_on.gpu or presets.GPU_DEFAULT, runs_on.gpu_count, runs_on.gpu_machine_type)


def temp_location(options: PipelineOptions, config: EmbedConfig) -> str | None:
    """Returns the directory in Cloud Storage for the files that BigQuery loads; None if there is none, or no table."""
    directory: str = options.view_as(GoogleCloudOptions).temp_location or ""
    if not directory and config.output and locations.is_gcs(config.output):
        directory = f"{config.output}/.temp"
    return directory.rstrip("/") if config.output_table and locations.is_gcs(directory) else None
