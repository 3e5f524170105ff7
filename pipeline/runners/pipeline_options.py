"""Beam's options: the command line, and under it the defaults of a preset. Unknown flags are refused."""

import difflib
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TypeVar

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from pipeline.flags.argument_parser import Parser
from pipeline.flags.options import RunsOn
from pipeline.runners import job_server, presets, traits
from pipeline.runners.presets import ONE_PROCESS, VCPUS

OptionsT = TypeVar("OptionsT", bound=PipelineOptions)

_MANY_PROCESSES = "use_multiple_sdk_containers"


class _Options(PipelineOptions):
    """Beam's options, with each view made once.

    Building a graph asks for a thousand views. Beam parses the flags again for each, in half of the building time.
    Views share their values, so an earlier view also shows values that are set later.
    """

    def __init__(self, flags: Sequence[str]):
        self.__dict__["_views"] = {}  # Beam's __setattr__ refuses names that are no options
        super().__init__(flags)

    def view_as(self, cls: type[OptionsT]) -> OptionsT:
        views: dict[type, OptionsT] = self.__dict__["_views"]
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]


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
    given, unknown = _parsed(argv)
    defaults = [f"--{name}={value}" for name, value in of_preset(runs_on, given).items()]
    options = _Options([*defaults, *argv])
    if unknown:
        _check_unknown(unknown, [*own_flags, *_beam_parser()._option_string_actions], job_server.flags(options))
    if traits.is_on_this_machine(options):
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


def on_command_line(argv: Sequence[str]) -> dict[str, object]:
    """Returns the values of Beam's flags that a command line gives."""
    return _parsed(argv)[0]


def _parsed(argv: Sequence[str]) -> tuple[dict[str, object], list[str]]:
    """Returns the values of Beam's flags, and the arguments that Beam does not know."""
    args, unknown = _beam_parser().parse_known_args(argv)
    return {name: value for name, value in vars(args).items() if value is not None}, unknown


def _beam_parser() -> Parser:
    """Returns a parser of all Beam's flags, without their defaults."""
    parser = Parser(allow_abbrev=False, add_help=False)
    for options in dict.fromkeys(PipelineOptions.__subclasses__()):
        options._add_argparse_args(parser)
    for action in parser._actions:
        action.default = None
    return parser


def of_preset(runs_on: RunsOn, given: Mapping[str, object]) -> dict[str, str | int]:
    """Returns Beam's flags of the preset, without those that the command line gives another value."""
    settings = {name: value for name, value in presets.settings(runs_on.preset).items() if name not in presets.OWN}
    if settings.get("number_of_worker_harness_threads") == VCPUS:
        machine_type = traits.gpus(runs_on).machine_type
        settings["number_of_worker_harness_threads"] = presets.shape(machine_type).vcpus
    if "sdk_container_image" in given:
        settings.pop("setup_file", None)  # the image has this package
    overridden = set(given)
    # Beam adds experiments up. The preset's stays, unless the command line decides on the number of processes.
    experiments = given.get("experiments")
    names = {name for text in experiments for name in text.split(",")} if isinstance(experiments, list) else set()
    if not names & {ONE_PROCESS, _MANY_PROCESSES}:
        overridden.discard("experiments")
    return {name: value for name, value in settings.items() if name not in overridden}
