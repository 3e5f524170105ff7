"""Beam without what it does again and again while it builds a pipeline: 2.1 s of CPU instead of 3.4 for a small run.

Beam inspects the methods of each DoFn six times, and makes an argument parser for each view of its options. The tests'
process and the runs of the fork server do that once. Beam stays as it is in commands that a test starts afresh, in runs
of a test with the fixture `plain_beam`, and everywhere if the variable PLAIN_BEAM is set.
"""

import argparse
import os
import types
from collections.abc import Callable

from apache_beam.options.pipeline_options import _BeamArgumentParser
from apache_beam.transforms import core

PLAIN = "PLAIN_BEAM"

_ArgumentsOf = Callable[[Callable], tuple[list, list]]


def install() -> None:
    """Changes Beam in this process, and in those that it forks, unless PLAIN_BEAM is set."""
    if os.environ.get(PLAIN):
        return
    core.get_function_args_defaults = _remember(core.get_function_args_defaults)
    _BeamArgumentParser._get_formatter = _formatter_of
    argparse._ = _untranslated


def _remember(arguments_of: _ArgumentsOf) -> _ArgumentsOf:
    """Remembers the arguments and their defaults of each function, and of methods those that all instances share."""
    remembered: dict[object, tuple[list, list]] = {}

    def recall(function: Callable) -> tuple[list, list]:
        key = ("method", function.__func__) if isinstance(function, types.MethodType) else function
        if key not in remembered:
            remembered[key] = arguments_of(function)
        arguments, defaults = remembered[key]
        return list(arguments), list(defaults)

    return recall


def _formatter_of(parser: argparse.ArgumentParser) -> argparse.HelpFormatter:
    """Returns one formatter for each parser: a new one asks the terminal, for each argument that is added."""
    formatter = vars(parser).get("formatter")
    if formatter is None:
        formatter = parser.formatter = argparse.HelpFormatter(parser.prog)
    return formatter


def _untranslated(message: str) -> str:
    """Returns the message: the search for a translation looks into four directories each time, and there is none."""
    return message
