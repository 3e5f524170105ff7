"""The arithmetic: batches → images a second, runs → medians and ratios. `README.md` has the same in words."""

import dataclasses
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Batch:
    """A call of the model: when it began and ended, in seconds of one clock, and how many images were in it."""

    began: float
    ended: float
    images: int


@dataclasses.dataclass(frozen=True)
class Spread:
    """Several measurements of one thing: their median, the least and the greatest."""

    median: float
    least: float
    greatest: float


def read_batches(path: Path) -> list[Batch]:
    """Returns the batches that a contender noted, in the order in which they ended."""
    batches = [Batch(*json.loads(line)) for line in path.read_text().splitlines()]
    return sorted(batches, key=lambda batch: batch.ended)


def steady_state(batches: Sequence[Batch]) -> float | None:
    """Returns the images a second from the end of the first batch to the end of the last; None without such a time.

    A batch of which a part was done before, since several are called at once, counts with the part of its call that
    lies in that time: else two calls at once would look as if one of the two first batches had taken no time.
    """
    first, last = min(batch.ended for batch in batches), max(batch.ended for batch in batches)
    if first == last:
        return None
    inside = (batch.images * _part_after(first, batch) for batch in batches if batch.ended > first)
    return sum(inside) / (last - first)


def _part_after(moment: float, batch: Batch) -> float:
    if batch.began >= moment:
        return 1.0
    return (batch.ended - moment) / (batch.ended - batch.began)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Returns the spread of what was measured; None where nothing was."""
    measured = [value for value in values if value is not None]
    if not measured:
        return None
    return Spread(statistics.median(measured), min(measured), max(measured))


def ratio(one: Spread | None, other: Spread | None) -> float | None:
    """Returns how many times the median of `other` that of `one` is; None where either is missing."""
    return one.median / other.median if one and other else None


def fastest(spreads: Iterable[Spread | None]) -> Spread | None:
    """Returns the one with the greatest median; None where there is none."""
    return max((found for found in spreads if found), key=lambda found: found.median, default=None)
