"""The frame of this project's commands: exit codes, a parser, and errors in one line."""

import argparse
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pipeline.attempts import interruption
from pipeline.runners.console import console, discard, open_streams, say, write_line
from transforms.elements.one_line import one_line
from transforms.storage import account

DONE, FAILED, WRONG = 0, 1, 2


class Parser(argparse.ArgumentParser):
    """Raises ValueError for a wrong flag. argparse itself would print the usage of all flags, and exit."""

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **settings)
        # So that `--pixel_range -1..1` and `--pixel_mean -1,0,1` have values, as `-1` would be one.
        self._negative_number_matcher = re.compile(r"^-[\d.][\d.,-]*$")

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)

    def print_help(self, file: Any = None) -> None:
        """Prints the help, and ends the process if that cannot be written."""
        try:
            write_line(file or sys.stdout, self.format_help().removesuffix("\n"))
        except OSError as error:
            say(f"{self.prog}: {unwritable(error)}")
            self.exit(FAILED)


def parser(module: str, description: str, examples: str) -> Parser:
    """Returns the parser of the command `python -m pipeline.<module>`, with the flag --verbose."""
    command_parser = Parser(
        prog=f"python -m pipeline.{module}",
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command_parser.add_argument("--verbose", action="store_true", help="show TensorFlow's logs, and whole tracebacks")
    return command_parser


def unwritable(error: OSError) -> str:
    """Returns what to say where stdout cannot be written."""
    return f"stdout cannot be written: {one_line(error)}"


def run(
    flags: Parser,
    argv: Sequence[str] | None,
    work: Callable[[argparse.Namespace], str | tuple[str, int]],
    *,
    only_shows: bool = False,
) -> int:
    """Runs a command and returns its exit code.

    A ValueError or OSError is the user's to fix: it becomes one line on stderr and exit code 2. A reader that has left
    before the end of the text is no error. If the text cannot be written, a line on stderr says so, and the exit code
    is that of the work.

    Args:
      flags: the parser of the command.
      argv: the arguments; None for those of this process.
      work: takes the parsed flags, and with them `screen`, a stream for its progress. It returns the text to print, or
        that text and the exit code, DONE or FAILED.
      only_shows: whether the text is all that the command is for. Then it has failed if the text cannot be written.
    """
    open_streams()
    name = flags.prog.rpartition(".")[2]
    account.complete()
    try:
        args = flags.parse_args(argv)
    except ValueError as error:
        say(f"{name}: {one_line(error)}")
        return WRONG
    with console(args.verbose) as terminal, interruption.by_signals():
        args.screen = terminal.screen
        try:
            result = work(args)
            message, code = result if isinstance(result, tuple) else (result, DONE)
        except (ValueError, OSError) as error:
            traceback.print_exc()
            message, code = one_line(error), WRONG
        except KeyboardInterrupt as error:
            message, code = "interrupted: nothing half-done is left", interruption.exit_code(error)
            interruption.ignore_further()
        discard(terminal)
        if code in (DONE, FAILED):
            try:
                write_line(sys.stdout, message)
            except OSError as error:
                write_line(terminal.screen, f"{name}: {unwritable(error)}")
                return FAILED if only_shows else code
        else:
            write_line(terminal.screen, f"{name}: {message}")
            interruption.leave_what_runs(code)
    return code
