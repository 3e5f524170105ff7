"""Where a job runs: Beam's options with a preset under them, and what follows from a choice of runner."""

import difflib
import os
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from pipeline import job_server, presets
from pipeline.command import Parser
from pipeline.options import EmbedConfig, RunsOn
from pipeline.presets import DATAFLOW, LOCAL_RUNNER, ONE_PROCESS, VCPUS, Accelerator
from transforms.models.spec import ModelSpec
from transforms.storage import locations

_MANY_PROCESSES = "use_multiple_sdk_containers"
# What a job on Dataflow cannot do without, and what to give.
_NEEDED = (
    ("project", "--project my-project"),
    ("region", "--region us-central1"),
    ("temp_location", "--temp_location gs://BUCKET/tmp"),
)


class Setting(NamedTuple):
    """One line of --explain; `source` is `preset <name>`, `flag` or where else the value is from."""

    name: str
    value: str
    source: str


def beam_options(argv: Sequence[str], own_flags: Iterable[str], runs_on: RunsOn | None = None) -> PipelineOptions:
    """Returns Beam's options with a preset under them.

    Args:
      argv: the flags that are not this project's.
      own_flags: this project's flags, to suggest one where a flag is nobody's.
      runs_on: which preset; the local one where it is not said.

    Raises:
      ValueError: if a flag is not Beam's either, or its value is wrong.
    """
    runs_on = runs_on or RunsOn()
    given, parser = _given(argv)
    under = [f"--{name}={value}" for name, value in _preset(runs_on, given).items()]
    options = PipelineOptions([*under, *argv])
    if given.unknown:
        known = [*own_flags, *(name for action in parser._actions for name in action.option_strings)]
        _check_unknown(given.unknown, known, job_server.flags(options))
    if _is_fn_api_runner(options):
        # It would run the stages that differ in their hints in processes of their own.
        options.view_as(StandardOptions).resource_hints = []
    return options


def _check_unknown(unknown: Sequence[str], known: Iterable[str], of_job_server: Container[str] | None) -> None:
    """Raises ValueError where an argument is nobody's; what only the job server knows is handed on to it."""
    argument = job_server.first_unknown(unknown, of_job_server or ())
    if not argument:
        return
    flag = argument.partition("=")[0]
    near = difflib.get_close_matches(flag, known, n=1)
    if of_job_server is None and argument.startswith("--") and not near:
        return  # Beam is yet to start the job server, which may know it
    hint = f"did you mean {near[0]}?" if near else "see --help"
    raise ValueError(f"{flag!r} is neither a flag of this command nor of Beam; {hint}")


class _Given(NamedTuple):
    values: dict[str, object]
    unknown: list[str]


def _given(argv: Sequence[str]) -> tuple[_Given, Parser]:
    parser = Parser(allow_abbrev=False, add_help=False)
    for options in dict.fromkeys(PipelineOptions.__subclasses__()):
        options._add_argparse_args(parser)
    for action in parser._actions:
        action.default = None
    values, unknown = parser.parse_known_args(argv)
    return _Given({name: value for name, value in vars(values).items() if value is not None}, unknown), parser


def _preset(runs_on: RunsOn, given: _Given) -> dict[str, str | int]:
    """Returns Beam's flags of the preset, without those that the command line says otherwise."""
    settings = presets.settings(runs_on.preset)
    if settings.get("number_of_worker_harness_threads") == VCPUS:
        chosen = _accelerator(runs_on)
        settings["number_of_worker_harness_threads"] = presets.shape(chosen.machine_type).vcpus
    if "sdk_container_image" in given.values:
        settings.pop("setup_file", None)  # that image has what the workers need
    experiments = given.values.get("experiments")
    given_names = set(given.values) - {"experiments"}
    if isinstance(experiments, list) and {ONE_PROCESS, _MANY_PROCESSES} & {
        name for each in experiments for name in each.split(",")
    }:
        given_names.add("experiments")
    return {name: value for name, value in settings.items() if name not in presets.OWN and name not in given_names}


def explain(argv: Sequence[str], config: EmbedConfig, options: PipelineOptions) -> str:
    """Returns what a command line comes to: a line a setting, with its value and where that is from."""
    runs_on = config.runs_on
    given, _ = _given(argv)
    from_preset = _preset(runs_on, given)
    source = f"preset {runs_on.preset}"
    shown = options.get_all_options()
    names = dict.fromkeys(
        [*(name for name in presets.settings(runs_on.preset) if name not in presets.OWN), *given.values]
    )
    rows = []
    for name in names:
        value = shown.get(name)
        if name in from_preset and name in given.values:
            said = f"{source} and flag"
        elif name in given.values:
            said = "flag"
        elif name in from_preset:
            said = source
        else:
            said = "left out for --sdk_container_image"
        rows.append(Setting(name, ",".join(map(str, value)) if isinstance(value, list) else str(value), said))
    default = presets.settings(runs_on.preset)["batch_size"]
    rows.append(Setting("batch_size", str(config.batch_size), source if config.batch_size == default else "flag"))
    if found := accelerator(options, runs_on):
        rows += [
            Setting("gpu", found.gpu, "flag" if runs_on.gpu else source),
            Setting("gpu_count", str(found.count), "flag" if runs_on.gpu_count != 1 else source),
            Setting("gpu_machine_type", found.machine_type, "flag" if runs_on.gpu_machine_type else "by the GPU"),
            Setting("accelerator hint", found.hint, "gpu, gpu_count, gpu_machine_type"),
            Setting(
                "accelerator on",
                "EmbedImages alone"
                if runs_on.separate_gpu_stage
                else "ReadImages, DecodeImages and EmbedImages, fused",
                "flag" if runs_on.separate_gpu_stage else source,
            ),
        ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{name:<{widths[0]}}  {value:<{widths[1]}}  {said}".rstrip() for name, value, said in rows]
    try:
        check(options, config)
    except ValueError as error:
        lines += ["", f"as it stands this cannot run: {error}"]
    return "\n".join(lines)


def is_dataflow(options: PipelineOptions) -> bool:
    return _runner(options) == DATAFLOW


def accelerator(options: PipelineOptions, runs_on: RunsOn) -> Accelerator | None:
    """Returns the GPUs of the workers that embed; None where hints mean nothing, which is all but Dataflow.

    Raises:
      ValueError: if there are no such GPUs, or not in such a machine.
    """
    if runs_on.preset != "dataflow-gpu" or not is_dataflow(options):
        return None
    return _accelerator(runs_on)


def _accelerator(runs_on: RunsOn) -> Accelerator:
    gpu = runs_on.gpu or str(presets.settings("dataflow-gpu")["gpu"])
    return presets.accelerator(gpu, runs_on.gpu_count, runs_on.gpu_machine_type)


def check(options: PipelineOptions, config: EmbedConfig) -> None:
    """Makes sure that Dataflow or a Flink cluster can take the job, as far as flags tell.

    Raises:
      ValueError: with what was expected, and what to give.
    """
    if _runner(options) == "FlinkRunner":
        _check_flink(options)
    if not is_dataflow(options):
        return
    cloud = options.view_as(GoogleCloudOptions)
    if missing := [example for name, example in _NEEDED if not getattr(cloud, name)]:
        raise ValueError(f"Dataflow needs a project, a region and a place for its files: give {' '.join(missing)}")
    if not locations.is_gcs(cloud.temp_location):
        raise ValueError(f"--temp_location {cloud.temp_location!r}: expected gs://BUCKET/DIRECTORY, for Dataflow")
    for flag, path in [*(("input", pattern) for pattern in config.inputs), ("output", config.output)]:
        if path and locations.is_local(path):
            raise ValueError(
                f"--{flag} {path!r} is on this machine, out of reach of Dataflow's workers: expected gs://…"
            )
    image, setup = options.view_as(WorkerOptions).sdk_container_image, options.view_as(SetupOptions).setup_file
    found = accelerator(options, config.runs_on)
    if found and not image:
        raise ValueError(
            "workers with a GPU need an image with CUDA, TensorFlow and this package: "
            "give --sdk_container_image REGION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE:TAG"
        )
    if not image and not setup and not options.view_as(SetupOptions).extra_packages:
        raise ValueError("workers need this package: give --setup_file PATH/TO/setup.py or --sdk_container_image IMAGE")
    _check_hints(options, found)


def _check_flink(options: PipelineOptions) -> None:
    portable = options.view_as(PortableOptions)
    in_job_server = options.view_as(FlinkRunnerOptions).flink_master in ("[auto]", "[local]")
    if in_job_server and not portable.job_endpoint and portable.environment_type == "EXTERNAL":
        raise ValueError(
            "a job for worker pools needs their Flink cluster: give --flink_master HOST:8081 and --flink_version as "
            "it has, or the --job_endpoint HOST:8099 of a job server (docs/flink.md)"
        )


def _check_hints(options: PipelineOptions, found: Accelerator | None) -> None:
    # Both: https://cloud.google.com/dataflow/docs/guides/right-fitting
    hints = options.view_as(StandardOptions).resource_hints
    if found and any(hint.startswith("accelerator") for hint in hints):
        raise ValueError(
            "--resource_hints accelerator=… puts a GPU on every worker, and --preset dataflow-gpu just where it is "
            "used: give one of them"
        )
    if not found and not hints:
        return
    cloud = options.view_as(GoogleCloudOptions)
    if any(option.startswith("worker_accelerator") for option in cloud.dataflow_service_options or []):
        raise ValueError(
            "--dataflow_service_options worker_accelerator=… puts a GPU on every worker, and does not go with resource "
            "hints: leave it out, or give --preset dataflow and no hints"
        )
    if cloud.flexrs_goal:
        raise ValueError(
            f"--flexrs_goal {cloud.flexrs_goal!r} does not go with resource hints: leave it out, or give --preset "
            "dataflow and no hints"
        )


def is_local(options: PipelineOptions) -> bool:
    """Returns whether the workers are threads of this process."""
    in_process = options.view_as(DirectOptions).direct_running_mode != "multi_processing"
    return _is_fn_api_runner(options) and in_process


def shares_model_across_processes(options: PipelineOptions) -> bool:
    """Returns whether a machine's workers are several processes, which had better share one model."""
    if _is_fn_api_runner(options):
        return not is_local(options)
    if is_dataflow(options):
        return ONE_PROCESS not in (options.view_as(DebugOptions).experiments or [])
    portable = options.view_as(PortableOptions)
    return portable.environment_type != "LOOPBACK" and int(portable.sdk_worker_parallelism) != 1


def check_location(options: PipelineOptions, model: ModelSpec) -> None:
    """Makes sure that workers on other machines can read the model.

    Raises:
      ValueError: if it lies on this machine and they do not.
    """
    baked = os.environ.get("BAKED_MODEL")  # set in the image of the Dockerfile, which is the workers' too
    if baked and model.location == baked and options.view_as(WorkerOptions).sdk_container_image:
        return
    if is_dataflow(options) and model.location and not locations.is_gcs(model.location):
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
    if not given and config.output and locations.is_gcs(config.output):
        given = f"{config.output}/.temp"
    if not locations.is_gcs(given or ""):
        raise ValueError(
            f"--output_table {config.output_table!r} is loaded from files in Cloud Storage: "
            "give --temp_location gs://BUCKET/DIRECTORY"
        )
    return str(given).rstrip("/")


def _runner(options: PipelineOptions) -> str:
    return options.view_as(StandardOptions).runner.rsplit(".")[-1]


def _is_fn_api_runner(options: PipelineOptions) -> bool:
    return _runner(options) == LOCAL_RUNNER.rsplit(".")[-1]
