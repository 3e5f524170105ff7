"""Pruning a table: finds the rows whose keys are no longer listed and that `prunable` allows to delete."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import apache_beam as beam

from pipeline.known.prunable import Covered, Unseen
from transforms.elements.records import Failure, Known

_HIDDEN, _UNTOLD = "hidden", "untold"


class Pruned(NamedTuple):
    """The rows of a table that belong to the images of a listing.

    Attributes:
      gone: rows to delete.
      hidden: for each row that stays because its image may be where the listing could not look: that place, as text.
      untold: rows that stay because their record does not say that the image was a file of its own.
      rows: all rows that may be deleted at all, of images that the listing covers.
    """

    gone: beam.PCollection[Known]
    hidden: beam.PCollection[str]
    untold: beam.PCollection[Known]
    rows: beam.PCollection[Known]


@dataclasses.dataclass(eq=False)
class Prune(beam.PTransform):
    """{"known": Known, "unlisted": Known, "failures": Failure} → Pruned.

    Attributes:
      patterns: of the listing. `known` are all rows, `unlisted` those whose key is not listed, and `failures` are the
        listing's.
      include_hidden: whether the listing has hidden files.
    """

    patterns: Sequence[str]
    include_hidden: bool = False

    def expand(self, inputs: dict[str, beam.PCollection]) -> Pruned:
        unseen = inputs["failures"] | "Unseen" >> beam.CombineGlobally(_Gather()).without_defaults()
        outputs = inputs["unlisted"] | "Rule" >> beam.ParDo(
            _Rule(self.patterns, self.include_hidden), beam.pvalue.AsSingleton(unseen, default_value=Unseen())
        ).with_output_types(Known, **{_HIDDEN: str, _UNTOLD: Known}).with_outputs(_HIDDEN, _UNTOLD, main="gone")
        rows = inputs["known"] | "WithinInput" >> beam.ParDo(
            _WithinInput(self.patterns, self.include_hidden)
        ).with_output_types(Known)
        return Pruned(outputs["gone"], outputs[_HIDDEN], outputs[_UNTOLD], rows)


class _Gather(beam.CombineFn):
    """The keys of failures, bounded."""

    def create_accumulator(self) -> Unseen:
        return Unseen()

    def add_input(self, unseen: Unseen, failure: Failure) -> Unseen:
        unseen.add(failure.key)
        return unseen

    def merge_accumulators(self, parts: Iterable[Unseen]) -> Unseen:
        total = Unseen()
        for part in parts:
            total.merge(part)
        return total

    def extract_output(self, unseen: Unseen) -> Unseen:
        return unseen


class _OfPatterns(beam.DoFn):
    def __init__(self, patterns: Sequence[str], include_hidden: bool):
        self._patterns = patterns
        self._include_hidden = include_hidden

    def setup(self) -> None:
        self._is_covered = Covered(self._patterns, include_hidden=self._include_hidden)


class _WithinInput(_OfPatterns):
    def process(self, known: Known) -> Iterable[Known]:
        if known.is_file and self._is_covered(known.key):
            yield known


class _Rule(_OfPatterns):
    def process(self, known: Known, unseen: Unseen) -> Iterable[Any]:
        if not self._is_covered(known.key):
            return
        if not known.is_file:
            yield beam.pvalue.TaggedOutput(_UNTOLD, known)
        elif place := unseen.hides(known.key):
            yield beam.pvalue.TaggedOutput(_HIDDEN, place)
        else:
            yield known
