"""What the text of a flag means, or in one line what was expected: the types that commands give to argparse."""

import argparse
import math
import os
import re
from pathlib import Path

from transforms import table_name
from transforms.storage import locations


def add_switch(parser: argparse._ActionsContainer, flag: str, meaning: str) -> None:
    """Adds a flag that is off unless given; `--flag=true` and `--flag=false` work too, as a template gives them."""
    parser.add_argument(flag, nargs="?", const=True, default=False, type=_truth, metavar="true|false", help=meaning)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected true or false")
    return text.lower() == "true"


def positive(text: str) -> int:
    """Returns a whole number from 1."""
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
    """Returns a number, NaN for what is none: it lies in no range that a caller compares it with."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def pattern(text: str) -> str:
    """Returns a pattern that means the same in any working directory; a directory means all that is below it."""
    if (locations.is_local(text) and Path(text).is_dir()) or text.endswith("/"):
        text = f"{text.rstrip('/')}/**"
    return absolute(text)


def table(text: str) -> str:
    """Returns a BigQuery table as PROJECT.DATASET.TABLE, which SQL takes between backticks."""
    try:
        return table_name.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def absolute(path: str) -> str:
    """Returns a path, which may have wildcards, without the working directory in it; a URI as it is."""
    if not path or not locations.is_local(path):
        return path.rstrip("/")
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - keeps **
