"""Skipping: what an earlier run embedded and has not changed since is not even read."""

import dataclasses
from collections.abc import Iterable

import apache_beam as beam

from transforms import counters
from transforms.records import ImageRef, Known

SKIPPED = "skipped"
GONE = "gone"


def is_current(ref: ImageRef, known: Iterable[Known]) -> bool:
    """Returns whether the latest of what was written under this key is of the version that is listed now."""
    latest = max(known, key=lambda entry: entry.written_at, default=None)
    return latest is not None and latest.version == ref.version


@dataclasses.dataclass(eq=False)
class SkipKnown(beam.PTransform):
    """{"refs": ImageRef, "known": Known} → ImageRef that is new or changed; the others' refs under the tag SKIPPED.

    Under the tag GONE comes the Known of every key that is not listed. A join, so that neither side has to fit into a
    worker.

    Attributes:
      reprocess: nothing is skipped.
    """

    reprocess: bool = False

    def expand(self, inputs: dict[str, beam.PCollection]) -> beam.pvalue.DoOutputsTuple:
        keyed = {
            "refs": inputs["refs"] | "RefsByKey" >> beam.Map(_ref_by_key).with_output_types(tuple[bytes, ImageRef]),
            "known": inputs["known"] | "KnownByKey" >> beam.Map(_known_by_key).with_output_types(tuple[bytes, Known]),
        }
        return (
            keyed
            | "SameKey" >> beam.CoGroupByKey()
            | "Skip" >> beam.ParDo(_Skip(self.reprocess)).with_outputs(SKIPPED, GONE, main="refs")
        )


class _Skip(beam.DoFn):
    def __init__(self, reprocess: bool):
        self._reprocess = reprocess

    def process(self, group: tuple[bytes, dict[str, Iterable]]) -> Iterable[ImageRef]:
        _, found = group
        known = list(found["known"])
        listed = False
        for ref in found["refs"]:
            listed = True
            if not self._reprocess and is_current(ref, known):
                counters.inc(counters.IMAGES_SKIPPED)
                yield beam.pvalue.TaggedOutput(SKIPPED, ref)
            else:
                yield ref
        if not listed:
            for entry in known:
                yield beam.pvalue.TaggedOutput(GONE, entry)


def _ref_by_key(ref: ImageRef) -> tuple[bytes, ImageRef]:
    return ref.key, ref


def _known_by_key(known: Known) -> tuple[bytes, Known]:
    return known.key, known
