"""Where a job runs: Beam's options, this project's defaults for them, and what follows from a choice of runner."""

import difflib
import os
from collections.abc import Iterable, Sequence

from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
    WorkerOptions,
)

from pipeline.command import Parser
from pipeline.options import EmbedConfig
from transforms.models.spec import ModelSpec

# Named explicitly: Beam's `DirectRunner` is a choice among runners, some of which ignore the flags below.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"

# One process, so that all threads share one model; decoding and inference leave Python's lock.
LOCAL_DEFAULTS = (f"--direct_num_workers={os.cpu_count() or 1}", "--direct_running_mode=multi_threading")


def beam_options(argv: Sequence[str], own_flags: Iterable[str]) -> PipelineOptions:
    """Returns Beam's options with this project's defaults under them.

    Args:
      argv: the flags that are not this project's.
      own_flags: this project's flags, to suggest one where a flag is nobody's.

    Raises:
      ValueError: if a flag is not Beam's either, or its value is wrong.
    """
    parser = Parser(allow_abbrev=False, add_help=False)
    for options in dict.fromkeys(PipelineOptions.__subclasses__()):
        options._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(argv)
    if unknown:
        flag = unknown[0].split("=")[0]
        known = [*own_flags, *(name for action in parser._actions for name in action.option_strings)]
        near = difflib.get_close_matches(flag, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "see --help"
        raise ValueError(f"{flag!r} is neither a flag of this command nor of Beam; {hint}")
    return PipelineOptions([f"--runner={LOCAL_RUNNER}", *LOCAL_DEFAULTS, *argv])


def is_local(options: PipelineOptions) -> bool:
    """Returns whether the workers are threads of this process."""
    in_process = options.view_as(DirectOptions).direct_running_mode != "multi_processing"
    return _is_fn_api_runner(options) and in_process


def shares_model_across_processes(options: PipelineOptions) -> bool:
    """Returns whether a machine's workers are several processes, which had better share one model."""
    if _is_fn_api_runner(options):
        return not is_local(options)
    if options.view_as(PortableOptions).environment_type == "LOOPBACK" or _runner(options) == "PrismRunner":
        return False
    return "no_use_multiple_sdk_containers" not in (options.view_as(DebugOptions).experiments or [])


def check_location(options: PipelineOptions, model: ModelSpec) -> None:
    """Makes sure that workers on other machines can read the model.

    Raises:
      ValueError: if it lies on this machine and they do not.
    """
    baked = os.environ.get("BAKED_MODEL")  # set in the image of the Dockerfile, which is the workers' too
    if baked and model.location == baked and options.view_as(WorkerOptions).sdk_container_image:
        return
    if _runner(options) == "DataflowRunner" and model.location and not model.location.startswith("gs://"):
        raise ValueError(
            f"model={model.name!r} lies on this machine, where Dataflow's workers cannot read it: "
            f"`python -m pipeline.stage_model {model.name} gs://BUCKET/MODEL`, then --model gs://BUCKET/MODEL"
        )


def temp_location(options: PipelineOptions, config: EmbedConfig) -> str:
    """Returns the directory in Cloud Storage that rows are loaded from.

    Raises:
      ValueError: if there is none.
    """
    given: str | None = options.view_as(GoogleCloudOptions).temp_location
    if not given and config.output and config.output.startswith("gs://"):
        given = f"{config.output}/.temp"
    if not (given or "").startswith("gs://"):
        raise ValueError(
            f"--output_table {config.output_table!r} is loaded from files in Cloud Storage: "
            "give --temp_location gs://BUCKET/DIRECTORY"
        )
    return str(given).rstrip("/")


def _runner(options: PipelineOptions) -> str:
    return options.view_as(StandardOptions).runner.rsplit(".")[-1]


def _is_fn_api_runner(options: PipelineOptions) -> bool:
    return _runner(options) == "FnApiRunner"
