"""Types of flags for argparse, shared by all commands: each parses the text of a flag, or says what was expected."""

import argparse
import math
import os
import re
from collections.abc import Callable

from transforms.elements import table_name
from transforms.storage import locations


def add_switch(parser: argparse._ActionsContainer, flag: str, meaning: str) -> None:
    """Adds a flag that is off by default. It also takes `=true` or `=false`, because a template passes it that way."""
    parser.add_argument(flag, nargs="?", const=True, default=False, type=_truth, metavar="true|false", help=meaning)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected true or false")
    return text.lower() == "true"


def positive(text: str) -> int:
    """Returns a whole number of at least 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1")
    return int(text)


def image_size(text: str) -> tuple[int, int]:
    """Returns (height, width) in pixels."""
    parsed = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not parsed or not int(parsed[1]) or not int(parsed[2]):
        raise argparse.ArgumentTypeError(f"{text!r}: expected HEIGHTxWIDTH in pixels, as in 224x224")
    return int(parsed[1]), int(parsed[2])


def number(text: str) -> float:
    """Returns a number, or NaN if the text is not a number: NaN lies in no range that a caller checks."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def number_that(is_valid: Callable[[float], bool], expected: str) -> Callable[[str], float]:
    """Returns the type of a number for which `is_valid` holds; `expected` says what that is."""

    def parse(text: str) -> float:
        if not is_valid(value := number(text)):
            raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}")
        return value

    return parse


def pattern(text: str) -> str:
    """Returns a pattern that is valid in any working directory. A directory becomes a pattern for all its files.

    Raises:
      ValueError: if it is empty, as an unset shell variable is. It would mean all files of the machine.
    """
    if not text.strip():
        raise ValueError(f"a pattern is {text!r}: expected a directory or a glob; '.' is the working directory")
    if locations.is_local(text):
        text = os.path.expanduser(text)  # noqa: PTH111 - as in `absolute`
    if (locations.is_local(text) and _is_directory(text)) or text.endswith("/"):
        text = f"{text.rstrip('/')}/**"
    return absolute(text)


def _is_directory(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises an error below a directory that may not be entered


def table(text: str) -> str:
    """Returns a BigQuery table as PROJECT.DATASET.TABLE, the form that SQL accepts between backticks."""
    try:
        return table_name.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def absolute(path: str) -> str:
    """Returns an absolute path, which may have wildcards. A URI stays as it is, without a / at its end."""
    if not path or not locations.is_local(path):
        return path.rstrip("/")
    path = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - keeps **
    return f"/{path.lstrip('/')}"  # it also keeps two slashes at the front, which would give each image a second key
