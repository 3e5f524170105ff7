"""The arithmetic: batches → images per second, runs → medians and ratios. `README.md` defines it in words."""

import dataclasses
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Batch:
    """A call of the model: its begin and end, in seconds of one clock, and its number of images."""

    began: float
    ended: float
    images: int


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median, least and greatest of several measurements."""

    median: float
    least: float
    greatest: float


def read_batches(path: Path) -> list[Batch]:
    """Returns the batches that a contender recorded, in the order of their ends."""
    batches = [Batch(*json.loads(line)) for line in path.read_text().splitlines()]
    return sorted(batches, key=lambda batch: batch.ended)


def steady_state(batches: Sequence[Batch]) -> float | None:
    """Returns the images per second from the end of the first batch to the end of the last; None if the two coincide.

    If several calls run at once, some of them are under way when that time begins. Such a batch counts with the part of
    its call that lies within the time. Otherwise, with two calls at once, one of the first two batches would seem to
    take no time.
    """
    first, last = min(batch.ended for batch in batches), max(batch.ended for batch in batches)
    if first == last:
        return None
    inside = (batch.images * _part_after(first, batch) for batch in batches if batch.ended > first)
    return sum(inside) / (last - first)


def _part_after(moment: float, batch: Batch) -> float:
    """Returns the part of a batch's call after a moment, from 0 to 1."""
    if batch.began >= moment:
        return 1.0
    return (batch.ended - moment) / (batch.ended - batch.began)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Returns the spread of the values that are not None; None if there are none."""
    measured = [value for value in values if value is not None]
    if not measured:
        return None
    return Spread(statistics.median(measured), min(measured), max(measured))


def ratio(one: Spread | None, other: Spread | None) -> float | None:
    """Returns the median of `one` divided by the median of `other`; None if either is missing."""
    return one.median / other.median if one and other else None


def fastest(spreads: Iterable[Spread | None]) -> Spread | None:
    """Returns the spread with the greatest median; None if there is none."""
    return max((each for each in spreads if each), key=lambda each: each.median, default=None)
