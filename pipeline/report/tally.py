"""Tallies: counts, failures and times. The pipeline sums each bundle, and then all bundles."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from pipeline.report.speed_over_time import Speed
from transforms.elements.records import EncodedBlock, Failure, LeftOut, Shard, StageSeconds
from transforms.embed import STAGE as EMBED

# Places that are named in a report.
_MOST_PLACES = 10


@dataclasses.dataclass
class Tally:
    """Sums over a part of a run, or over all of it.

    Attributes:
      counts: name → number: images by outcome, rows as `pruning` in a report has them, `shards` of embeddings, the
        records of their formats, and `lines` of failures.
      failures: (stage, error) → images.
      times: (stage, device) → how long the workers' threads were busy.
      speed: images over time.
      origins: (attempt, outcome) → vectors that this attempt has taken over from an earlier one.
      hidden: place that could not be listed → rows that are not pruned because of it; some places, at most.
      left_out: (why, kind of name) → files that were passed over, see LeftOut.
    """

    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    failures: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    times: dict[tuple[str, str], StageSeconds] = dataclasses.field(default_factory=dict)
    origins: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    speed: Speed = dataclasses.field(default_factory=Speed)
    hidden: Counter[str] = dataclasses.field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)

    def add_failure(self, failure: Failure) -> None:
        """Counts an image that failed."""
        self.failures[failure.stage, failure.error] += 1

    def add_time(self, time: StageSeconds) -> None:
        """Adds the time of one item, or of several."""
        self._add(time)
        if time.stage == EMBED:
            self.speed.add(time.started, time.ended, time.items)

    def _add(self, time: StageSeconds) -> None:
        key = time.stage, time.device
        total = self.times.get(key)
        self.times[key] = time if total is None else total.merge(time)

    def add_origin(self, origin: tuple[str, str]) -> None:
        """Counts a vector of an earlier attempt, under the outcome that its image had there."""
        self.origins[origin] += 1
        self.counts[origin[1]] += 1

    def add_hidden(self, place: str, rows: int = 1) -> None:
        """Counts rows that are not pruned because of a place that could not be listed."""
        self.counts["hidden"] += rows
        self._name(place, rows)

    def _name(self, place: str, rows: int) -> None:
        if place in self.hidden or len(self.hidden) < _MOST_PLACES:
            self.hidden[place] += rows

    def add_left_out(self, left_out: LeftOut) -> None:
        """Counts files that were passed over for their names."""
        self.left_out[left_out.why, left_out.name] += left_out.files

    @classmethod
    def merge(cls, tallies: Iterable["Tally"]) -> "Tally":
        """Returns the sum of several tallies, and does not change them."""
        total = cls()
        for tally in tallies:
            total.counts.update(tally.counts)
            total.failures.update(tally.failures)
            total.origins.update(tally.origins)
            for place, rows in tally.hidden.items():
                total._name(place, rows)
            for time in tally.times.values():
                total._add(time)
            total.speed.merge(tally.speed)
            total.left_out.update(tally.left_out)
        return total


@dataclasses.dataclass(eq=False)
class SumTallies(beam.PTransform):
    """Pipeline → one Tally of all elements of these collections, or no element if they are all empty.

    Elements are summed where they are made, so only a few numbers per bundle cross to another stage.

    Attributes: see ComposeReport.
    """

    counted: Sequence[tuple[str, beam.PCollection]]
    failures: beam.PCollection[Failure]
    written: Sequence[tuple[str, beam.PCollection[Shard]]]
    seconds: Sequence[beam.PCollection[StageSeconds]]
    origins: beam.PCollection[tuple[str, str]] | None = None
    hidden: beam.PCollection[str] | None = None
    left_out: Sequence[beam.PCollection[LeftOut]] = ()

    def expand(self, root: Any) -> beam.PCollection[Tally]:
        sums: list[tuple[beam.PCollection, Callable[[Tally, Any], None]]] = [
            *((elements, functools.partial(_add_element, name=name)) for name, elements in self.counted),
            *((shards, functools.partial(_add_shard, name=name)) for name, shards in self.written),
            *((times, Tally.add_time) for times in self.seconds),
            *((left_out, Tally.add_left_out) for left_out in self.left_out),
            (self.failures, Tally.add_failure),
        ]
        if self.origins:
            sums.append((self.origins, Tally.add_origin))
        if self.hidden:
            sums.append((self.hidden, Tally.add_hidden))
        tallies = [
            collection | f"Sum{i}" >> beam.ParDo(_Sum(add)).with_output_types(Tally)
            for i, (collection, add) in enumerate(sums)
        ]
        return tallies | "Sums" >> beam.Flatten() | "Total" >> beam.CombineGlobally(Tally.merge).without_defaults()


class _Sum(beam.DoFn):
    """Any element → a Tally for each bundle."""

    def __init__(self, add: Callable[[Tally, Any], None]):
        self._add = add

    def start_bundle(self) -> None:
        self._tally = Tally()

    def process(self, element: Any) -> None:
        self._add(self._tally, element)

    def finish_bundle(self) -> Iterable[Any]:
        yield GlobalWindows.windowed_value(self._tally)


def _add_element(tally: Tally, element: Any, name: str) -> None:
    tally.counts[name] += len(element) if isinstance(element, EncodedBlock) else 1


def _add_shard(tally: Tally, shard: Shard, name: str) -> None:
    tally.counts[name] += shard.records
    if name != "lines":
        tally.counts["shards"] += 1
