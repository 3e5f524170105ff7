"""What the docstring of an example says: the commands, and what the first of them prints."""

import ast
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from tests.helpers.running import ROOT

_INDENT = " " * 4


def indented(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the indented blocks of a module's docstring, each with the number of its first line in the file."""
    lines: list[str] = []
    docstring = ast.get_docstring(ast.parse(path.read_text()), clean=False) or ""
    for number, line in enumerate([*docstring.splitlines(), "the end"], 1):
        if line.startswith(_INDENT) or (lines and not line):
            lines.append(line.removeprefix(_INDENT))
        elif lines:
            text = "\n".join(lines).rstrip()
            yield number - len(lines), text + "\n"
            lines = []


def is_command(block: str) -> bool:
    """Returns whether a block is to be typed into a shell; else it shows what a command prints."""
    return block.startswith((".venv/bin/python ", "gcloud ", "--"))


def first_command(example: ModuleType, **values: object) -> list[str]:
    """Returns the arguments of the first command that runs an example, with other values for some of its flags."""
    path = Path(example.__file__ or "")
    commands = next(block for _, block in indented(path) if is_command(block)).replace("\\\n", " ").splitlines()
    (words,) = (words for command in commands if str(path.relative_to(ROOT)) in (words := shlex.split(command)))
    arguments = words[2:]
    for name, value in values.items():
        arguments[arguments.index(f"--{name}") + 1] = str(value)
    return arguments


def shown(example: ModuleType) -> str:
    """Returns what the docstring of an example shows of its output."""
    return next(block for _, block in indented(Path(example.__file__ or "")) if not is_command(block))
