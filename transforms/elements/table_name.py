"""Names of BigQuery tables: their pattern, how they are parsed, and the names of the tables that belong to a table.

A query parameter cannot stand for a table, so names become part of a statement's text. This module checks them first.
"""

import re
from typing import NamedTuple

# A project may have a domain before it, as in example.com:project.
_PROJECT, _DATASET, _TABLE = r"[a-z][a-z0-9.:-]*", r"\w+", r"[\w-]+"
# Files in deploy/ that cannot import this package have copies of this pattern.
PATTERN = rf"{_PROJECT}[:.]{_DATASET}\.{_TABLE}"
_PARTS = re.compile(rf"({_PROJECT})[:.]({_DATASET})\.({_TABLE})")


class Parts(NamedTuple):
    """The parts of a table's name."""

    project: str
    dataset: str
    table: str


def split(text: str) -> Parts:
    """Returns the parts of PROJECT:DATASET.TABLE or PROJECT.DATASET.TABLE.

    Raises:
      ValueError: if `text` is not such a name.
    """
    parts = _PARTS.fullmatch(text)
    if not parts:
        raise ValueError(f"{text!r}: expected PROJECT:DATASET.TABLE")
    return Parts(*parts.groups())


def parse(text: str) -> str:
    """Returns a table's name as PROJECT.DATASET.TABLE, the form for SQL, between backticks.

    Raises:
      ValueError: see `split`.
    """
    return ".".join(split(text))


def failures(table: str) -> str:
    """Returns the name of the table of images without a vector."""
    return f"{table}_failures"


def runs(table: str) -> str:
    """Returns the name of the table of runs."""
    return f"{table}_runs"


def latest(table: str) -> str:
    """Returns the name of the view that shows the rows of one model."""
    return f"{table}_latest"
