"""The command: `embed-images` where it is installed, `python -m pipeline` in a clone. Without a verb it is `run`."""

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from pipeline.attempts import interruption
from pipeline.commands.frame import DONE, WRONG
from pipeline.commands.verbs import VERBS
from pipeline.flags import command_lines
from pipeline.runners.console import open_streams, say


def run_command() -> NoReturn:
    """Runs the command with the arguments of this process, and ends the process."""
    code = main(sys.argv[1:])
    if code not in (DONE, WRONG):  # workers, or TensorFlow's input threads, may still run Python code
        interruption.leave(code)
    sys.exit(code)


def main(argv: Sequence[str]) -> int:
    """Runs the verb that the arguments begin with, and returns its exit code."""
    word, flags = ("run", argv) if not argv or argv[0].startswith("-") else (argv[0], argv[1:])
    name = word.replace("_", "-")
    if name not in VERBS:
        open_streams()
        near = difflib.get_close_matches(name, VERBS, n=1)
        meant = f"did you mean {near[0]}?" if near else f"expected a flag, or one of {', '.join(VERBS)}"
        say(f"{command_lines.name()}: {word!r} is no verb: {meant}")
        return WRONG
    verb = VERBS[name]
    code: int = importlib.import_module(verb.module).main([*verb.flags, *flags])
    return code


if __name__ == "__main__":
    run_command()
