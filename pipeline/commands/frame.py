"""The frame of the verbs: exit codes, a parser, and errors in one line."""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence

from pipeline.attempts import interruption
from pipeline.flags import command_lines
from pipeline.flags.argument_parser import Parser
from pipeline.runners.console import console, discard, open_streams, say, unwritable, write_line
from transforms.elements.one_line import one_line
from transforms.storage import account

DONE, FAILED, WRONG = 0, 1, 2


def parser(verb: str, description: str, examples: str) -> Parser:
    """Returns the parser of a verb, with the flag --verbose. The examples are of `python -m pipeline VERB`."""
    command_parser = Parser(
        prog=command_lines.as_called(f"python -m pipeline {verb}"),
        description=description,
        epilog=f"examples:\n{command_lines.as_called(examples)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command_parser.add_argument("--verbose", action="store_true", help="show TensorFlow's logs, and whole tracebacks")
    return command_parser


def run(
    flags: Parser,
    argv: Sequence[str] | None,
    work: Callable[[argparse.Namespace], str | tuple[str, int]],
    *,
    only_shows: bool = False,
) -> int:
    """Runs a command and returns its exit code.

    A ValueError or OSError is the user's to fix: it becomes one line on stderr and exit code 2. A closed pipe is no
    error. If the text cannot be written for another reason, a line on stderr says so, and the exit code is that of the
    work.

    Args:
      flags: the parser of the command.
      argv: the arguments; None for those of this process.
      work: takes the parsed flags, and with them `screen`, a stream for its progress. It returns the text to print, or
        that text and the exit code, DONE or FAILED.
      only_shows: whether the command only shows the text. It then fails if the text cannot be written.
    """
    open_streams()
    name = flags.prog.rpartition(" ")[2]
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
            message, code = command_lines.advice_as_called(one_line(error)), WRONG
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
