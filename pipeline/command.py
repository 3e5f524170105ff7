"""What this project's commands share: exit codes, a parser and errors that speak in one line."""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from pipeline.console import console, discard
from transforms.one_line import one_line

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """Raises ValueError with what is wrong; argparse would print the usage of all flags above it, and exit."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def parser(module: str, description: str, examples: str) -> Parser:
    """Returns the parser of a command that runs as `python -m pipeline.<module>`, with the flag --verbose."""
    made = Parser(
        prog=f"python -m pipeline.{module}",
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--verbose", action="store_true", help="show TensorFlow's logs, and whole tracebacks")
    return made


def run(flags: Parser, argv: Sequence[str] | None, work: Callable[[argparse.Namespace], str]) -> int:
    """Runs a command: parses its flags, works, prints what the work returns, and returns the exit code.

    ValueErrors and OSErrors are the user's to mend: one line on stderr, exit code 2.
    """
    name = flags.prog.rpartition(".")[2]
    try:
        arguments = flags.parse_args(argv)
    except ValueError as error:
        sys.stderr.write(f"{name}: {one_line(error)}\n")
        return WRONG
    with console(arguments.verbose) as shown:
        try:
            said, code = work(arguments), DONE
        except (ValueError, OSError) as error:
            traceback.print_exc()
            said, code = one_line(error), WRONG
        except KeyboardInterrupt:
            said, code = "interrupted: nothing half-done is left", INTERRUPTED
        discard(shown)
        if code:
            shown.screen.write(f"{name}: {said}\n")
        else:
            print(said)
    return code
