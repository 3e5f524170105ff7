"""The runner of a job: Beam's options with a preset as their defaults, and checks that depend on the runner."""

import difflib
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

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

from pipeline.flags.argument_parser import Parser
from pipeline.flags.options import EmbedConfig, RunsOn
from pipeline.runners import job_server, presets
from pipeline.runners.presets import DATAFLOW, LOCAL_RUNNER, ONE_PROCESS, VCPUS, Accelerator
from transforms.decoders.job import ONE_A_CORE
from transforms.models.spec import ModelSpec
from transforms.storage import locations

OptionsT = TypeVar("OptionsT", bound=PipelineOptions)

_MANY_PROCESSES = "use_multiple_sdk_containers"
# Options that a job on Dataflow needs, with examples.
_NEEDED = (
    ("project", "--project my-project"),
    ("region", "--region us-central1"),
    ("temp_location", "--temp_location gs://BUCKET/tmp"),
)


class _Options(PipelineOptions):
    """Beam's options, with each view made once.

    Building a graph asks for a thousand views, and Beam parses the flags again for each: half the time of building.
    Views share their values, so one that was made earlier shows what was set since.
    """

    def __init__(self, flags: Sequence[str]):
        self.__dict__["_views"] = {}  # Beam's __setattr__ refuses names that are no options
        super().__init__(flags)

    def view_as(self, cls: type[OptionsT]) -> OptionsT:
        views: dict[type, OptionsT] = self.__dict__["_views"]
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]


class Setting(NamedTuple):
    """One line of --explain. `source` is `preset <name>`, `flag` or another origin of the value."""

    name: str
    value: str
    source: str


def beam_options(argv: Sequence[str], own_flags: Iterable[str], runs_on: RunsOn | None = None) -> PipelineOptions:
    """Returns Beam's options with a preset as their defaults.

    Args:
      argv: the arguments that are not this project's.
      own_flags: this project's flags, to suggest one of them for an unknown flag.
      runs_on: the choice of the preset; None for the local one.

    Raises:
      ValueError: if a flag is unknown to Beam too, or if its value is wrong.
    """
    runs_on = runs_on or RunsOn()
    parser = _beam_parser()
    command_line = _parse(parser, argv)
    defaults = [f"--{name}={value}" for name, value in _preset(runs_on, command_line.values).items()]
    options = _Options([*defaults, *argv])
    if command_line.unknown:
        known = [*own_flags, *(name for action in parser._actions for name in action.option_strings)]
        _check_unknown(command_line.unknown, known, job_server.flags(options))
    if _is_fn_api_runner(options):
        # With hints, this runner would start processes of its own for stages whose hints differ.
        options.view_as(StandardOptions).resource_hints = []
    return options


def _check_unknown(unknown: Sequence[str], known: Iterable[str], server_flags: Container[str] | None) -> None:
    """Raises ValueError for an argument that neither Beam nor the job server knows; None: the server's are unknown."""
    argument = job_server.first_unknown(unknown, server_flags or ())
    if not argument:
        return
    flag = argument.partition("=")[0]
    similar = difflib.get_close_matches(flag, known, n=1)
    if server_flags is None and argument.startswith("--") and not similar:
        return  # Beam has yet to start the job server, which may know the flag
    hint = f"did you mean {similar[0]}?" if similar else "see --help"
    if not flag.startswith("-"):
        hint = "quote a pattern, or the shell replaces it by the names of files: --input 'photos/*.jpg'"
    raise ValueError(f"{flag!r} is neither a flag of this command nor of Beam; {hint}")


class _CommandLine(NamedTuple):
    """Arguments by what they are: values of Beam's flags on the command line, and arguments that Beam does not know."""

    values: dict[str, object]
    unknown: list[str]


def _beam_parser() -> Parser:
    """Returns a parser of all Beam's flags, without their defaults."""
    parser = Parser(allow_abbrev=False, add_help=False)
    for options in dict.fromkeys(PipelineOptions.__subclasses__()):
        options._add_argparse_args(parser)
    for action in parser._actions:
        action.default = None
    return parser


def _parse(parser: Parser, argv: Sequence[str]) -> _CommandLine:
    args, unknown = parser.parse_known_args(argv)
    return _CommandLine({name: value for name, value in vars(args).items() if value is not None}, unknown)


def _preset(runs_on: RunsOn, values: Mapping[str, object]) -> dict[str, str | int]:
    """Returns Beam's flags of the preset, without those that `values`, from the command line, override."""
    settings = presets.settings(runs_on.preset)
    if settings.get("number_of_worker_harness_threads") == VCPUS:
        machine_type = _accelerator(runs_on).machine_type
        settings["number_of_worker_harness_threads"] = presets.shape(machine_type).vcpus
    if "sdk_container_image" in values:
        settings.pop("setup_file", None)  # the image has this package
    overridden = set(values)
    # Beam adds experiments up. The preset's stays, unless the command line decides on the number of processes.
    experiments = values.get("experiments")
    names = {name for text in experiments for name in text.split(",")} if isinstance(experiments, list) else set()
    if not names & {ONE_PROCESS, _MANY_PROCESSES}:
        overridden.discard("experiments")
    return {name: value for name, value in settings.items() if name not in presets.OWN and name not in overridden}


def explain(argv: Sequence[str], config: EmbedConfig, options: PipelineOptions) -> str:
    """Returns the settings that a command line leads to: a line each, with its value and origin."""
    settings = [*_beam_settings(argv, config.runs_on, options), *_own_settings(config, options)]
    name_width = max(len(setting.name) for setting in settings)
    value_width = max(len(setting.value) for setting in settings)
    lines = [f"{name:<{name_width}}  {value:<{value_width}}  {source}".rstrip() for name, value, source in settings]
    try:
        check(options, config)
    except ValueError as error:
        lines += ["", f"this job cannot run yet: {error}"]
    return "\n".join(lines)


def _beam_settings(argv: Sequence[str], runs_on: RunsOn, options: PipelineOptions) -> Iterator[Setting]:
    """Yields Beam's options that the preset or the command line sets."""
    values = _parse(_beam_parser(), argv).values
    from_preset = _preset(runs_on, values)
    preset = f"preset {runs_on.preset}"
    effective = options.get_all_options()
    of_preset = [name for name in presets.settings(runs_on.preset) if name not in presets.OWN]
    for name in dict.fromkeys([*of_preset, *values]):
        value = effective.get(name)
        if name in from_preset and name in values:
            source = f"{preset} and flag"
        elif name in values:
            source = "flag"
        elif name in from_preset:
            source = preset
        else:
            source = "left out because of --sdk_container_image"
        yield Setting(name, ",".join(map(str, value)) if isinstance(value, list) else str(value), source)


def _own_settings(config: EmbedConfig, options: PipelineOptions) -> Iterator[Setting]:
    """Yields this project's settings that a preset has a say in."""
    runs_on = config.runs_on
    preset = f"preset {runs_on.preset}"
    is_default = config.batch_size == presets.batch_size(runs_on.preset)
    yield Setting("batch_size", str(config.batch_size), preset if is_default else "flag")
    default = presets.decode_processes(runs_on.preset)
    processes = presets.CORES if config.decode_processes == ONE_A_CORE else str(config.decode_processes)
    yield Setting("decode_processes", processes, preset if processes == default else "flag")
    gpus = accelerator(options, runs_on)
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


def is_dataflow(options: PipelineOptions) -> bool:
    return _runner(options) == DATAFLOW


def accelerator(options: PipelineOptions, runs_on: RunsOn) -> Accelerator | None:
    """Returns the GPUs of the workers that embed; None without --preset dataflow-gpu, or if Dataflow is not the runner.

    Raises:
      ValueError: if there are no such GPUs, or if the machine cannot have them.
    """
    if runs_on.preset != "dataflow-gpu" or not is_dataflow(options):
        return None
    return _accelerator(runs_on)


def _accelerator(runs_on: RunsOn) -> Accelerator:
    gpu = runs_on.gpu or str(presets.settings("dataflow-gpu")["gpu"])
    return presets.accelerator(gpu, runs_on.gpu_count, runs_on.gpu_machine_type)


def check(options: PipelineOptions, config: EmbedConfig) -> None:
    """Makes sure that Dataflow or a Flink cluster can accept the job, as far as its flags tell.

    Raises:
      ValueError: if it cannot; the message says which flag to add or to change.
    """
    if _runner(options) == "FlinkRunner":
        _check_flink(options)
    if not is_dataflow(options):
        return
    cloud = options.view_as(GoogleCloudOptions)
    if missing := [example for name, example in _NEEDED if not getattr(cloud, name)]:
        raise ValueError(f"Dataflow needs a project, a region and a directory for its files: give {' '.join(missing)}")
    if not locations.is_gcs(cloud.temp_location):
        raise ValueError(f"--temp_location {cloud.temp_location!r}: expected gs://BUCKET/DIRECTORY, for Dataflow")
    for flag, path in [*(("input", pattern) for pattern in config.inputs), ("output", config.output)]:
        if path and locations.is_local(path):
            raise ValueError(
                f"--{flag} {path!r} is on this machine, out of reach of Dataflow's workers: expected gs://…"
            )
    image, setup = options.view_as(WorkerOptions).sdk_container_image, options.view_as(SetupOptions).setup_file
    gpus = accelerator(options, config.runs_on)
    if gpus and not image:
        raise ValueError(
            "workers with a GPU need an image with CUDA, TensorFlow and this package: "
            "give --sdk_container_image REGION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE:TAG"
        )
    if not image and not setup and not options.view_as(SetupOptions).extra_packages:
        raise ValueError("workers need this package: give --setup_file PATH/TO/setup.py or --sdk_container_image IMAGE")
    _check_hints(options, gpus)


def _check_flink(options: PipelineOptions) -> None:
    portable = options.view_as(PortableOptions)
    in_job_server = options.view_as(FlinkRunnerOptions).flink_master in ("[auto]", "[local]")
    if in_job_server and not portable.job_endpoint and portable.environment_type == "EXTERNAL":
        raise ValueError(
            "a job for worker pools needs their Flink cluster: give --flink_master HOST:8081 and --flink_version, the "
            "version of the cluster, or the --job_endpoint HOST:8099 of a job server (docs/flink.md)"
        )


def _check_hints(options: PipelineOptions, gpus: Accelerator | None) -> None:
    # These rules: https://cloud.google.com/dataflow/docs/guides/right-fitting
    hints = options.view_as(StandardOptions).resource_hints
    if gpus and any(hint.startswith("accelerator") for hint in hints):
        raise ValueError(
            "--resource_hints accelerator=… puts a GPU on every worker, --preset dataflow-gpu only on those that use "
            "it: give one of them"
        )
    if not gpus and not hints:
        return
    cloud = options.view_as(GoogleCloudOptions)
    if any(option.startswith("worker_accelerator") for option in cloud.dataflow_service_options or []):
        raise ValueError(
            "--dataflow_service_options worker_accelerator=… puts a GPU on every worker, and cannot be combined with "
            "resource hints: leave it out, or give --preset dataflow and no hints"
        )
    if cloud.flexrs_goal:
        raise ValueError(
            f"--flexrs_goal {cloud.flexrs_goal!r} cannot be combined with resource hints: leave it out, or give "
            "--preset dataflow and no hints"
        )


def is_local(options: PipelineOptions) -> bool:
    """Returns whether the workers are threads of this process."""
    in_process = options.view_as(DirectOptions).direct_running_mode != "multi_processing"
    return _is_fn_api_runner(options) and in_process


def is_on_this_machine(options: PipelineOptions) -> bool:
    """Returns whether the workers are threads of this process, or processes that end with it."""
    return _is_fn_api_runner(options)


def shares_model_across_processes(options: PipelineOptions) -> bool:
    """Returns whether a machine runs several worker processes, which then share one model to save memory."""
    if _is_fn_api_runner(options):
        return not is_local(options)
    if is_dataflow(options):
        return ONE_PROCESS not in (options.view_as(DebugOptions).experiments or [])
    portable = options.view_as(PortableOptions)
    return portable.environment_type != "LOOPBACK" and int(portable.sdk_worker_parallelism) != 1


def check_location(options: PipelineOptions, model: ModelSpec) -> None:
    """Makes sure that workers on other machines can read the model.

    Raises:
      ValueError: if the model is on this machine and the workers are not.
    """
    baked = os.environ.get("BAKED_MODEL")  # the Dockerfile sets it in the image, which workers run too
    if baked and model.location == baked and options.view_as(WorkerOptions).sdk_container_image:
        return
    if is_dataflow(options) and model.location and not locations.is_gcs(model.location):
        raise ValueError(
            f"model={model.name!r} is on this machine, where Dataflow's workers cannot read it: run "
            f"`python -m pipeline stage-model {model.name} gs://BUCKET/MODEL`, then --model gs://BUCKET/MODEL"
        )


def temp_location(options: PipelineOptions, config: EmbedConfig) -> str:
    """Returns the directory in Cloud Storage for the files that BigQuery loads.

    Raises:
      ValueError: if there is none.
    """
    directory: str = options.view_as(GoogleCloudOptions).temp_location or ""
    if not directory and config.output and locations.is_gcs(config.output):
        directory = f"{config.output}/.temp"
    if not locations.is_gcs(directory):
        raise ValueError(
            f"--output_table {config.output_table!r}: BigQuery loads rows from files in Cloud Storage: "
            "give --temp_location gs://BUCKET/DIRECTORY"
        )
    return directory.rstrip("/")


def _runner(options: PipelineOptions) -> str:
    return options.view_as(StandardOptions).runner.rsplit(".")[-1]


def _is_fn_api_runner(options: PipelineOptions) -> bool:
    return _runner(options) == LOCAL_RUNNER.rsplit(".")[-1]
