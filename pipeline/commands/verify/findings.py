"""Findings: what was checked, what is wrong, and what is worth knowing. Their size is bounded, whatever is wrong."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from transforms.elements.one_line import printable

# The first items of a kind are named, up to this number. All are counted.
LIMIT = 20


@dataclasses.dataclass
class Check:
    """One thing that was checked: a line with numbers, and how many problems it showed."""

    text: str
    problems: int = 0


@dataclasses.dataclass
class Items:
    """Items of one kind: their number, and the first ones."""

    count: int = 0
    first: list[str] = dataclasses.field(default_factory=list)

    def add(self, item: str, count: int) -> None:
        self.count += count
        if len(self.first) < LIMIT:
            self.first.append(printable(item))


class Findings:
    """Collects the outcome of all checks.

    >>> findings = Findings()
    >>> with findings.check("2 records") as check:
    ...     findings.problem("a vector is not finite", "a.jpg")
    >>> findings.total, check.problems
    (1, 1)
    """

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self.problems: dict[str, Items] = {}
        self.notes: dict[str, Items] = {}

    @property
    def total(self) -> int:
        """The number of problems."""
        return sum(items.count for items in self.problems.values())

    @contextlib.contextmanager
    def check(self, text: str) -> Iterator[Check]:
        """Yields a check, whose text may be set in the block. It counts the problems that are found in the block."""
        check, before = Check(text), self.total
        self.checks.append(check)
        yield check
        check.problems = self.total - before

    def problem(self, kind: str, item: str, count: int = 1) -> None:
        """Adds something that is wrong: its kind in words, which one it is, and how many it stands for."""
        self.problems.setdefault(kind, Items()).add(item, count)

    def note(self, kind: str, item: str, count: int = 1) -> None:
        """Adds something that is worth knowing and is not wrong."""
        self.notes.setdefault(kind, Items()).add(item, count)

    def document(self) -> dict[str, Any]:
        """Returns all of it for JSON."""
        return {
            "ok": not self.total,
            "checks": [{"checked": check.text, "problems": check.problems} for check in self.checks],
            "problems": _document(self.problems),
            "notes": _document(self.notes),
        }

    def text(self) -> str:
        """Returns all of it for people."""
        lines = [f"{_outcome(check):<14}{check.text}" for check in self.checks]
        for title, kinds in (("problem", self.problems), ("note", self.notes)):
            for kind, items in kinds.items():
                lines.append(f"\n{title}: {kind} ({items.count:,})")
                lines += [f"  {item}" for item in items.first]
                if items.count > len(items.first):
                    lines.append(f"  … the first {len(items.first)} of {items.count:,}")
        conclusion = counted(self.total, "problem") if self.total else "nothing is wrong"
        return "\n".join([*lines, "", conclusion])


def counted(number: int, noun: str) -> str:
    """Returns a number of things in words.

    >>> counted(1, "file"), counted(1204, "file")
    ('1 file', '1,204 files')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _document(kinds: dict[str, Items]) -> list[dict[str, Any]]:
    return [{"kind": kind, "count": items.count, "first": items.first} for kind, items in kinds.items()]


def _outcome(check: Check) -> str:
    return f"{check.problems:,} wrong" if check.problems else "ok"
