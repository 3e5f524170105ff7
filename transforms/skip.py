"""Skipping: an image that an earlier run embedded, and that has not changed since, is not even read."""

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import apache_beam as beam

from transforms import counters
from transforms.records import ImageRef, Known
from transforms.stage import Stage

_NEW, _SKIPPED, _GONE = "new", "skipped", "gone"


class SkipOutput(NamedTuple):
    """Images by whether earlier runs have a current record of them.

    Attributes:
      new: refs of images that are new or have changed.
      skipped: refs of images whose record is current.
      gone: the Known of every key that is no longer listed.
    """

    new: beam.PCollection[ImageRef]
    skipped: beam.PCollection[ImageRef]
    gone: beam.PCollection[Known]


def is_current(ref: ImageRef, known: Iterable[Known]) -> bool:
    """Returns whether the latest record of this key has the version that was listed.

    An unknown version, "", is never current: two unknown versions may be of different contents.
    """
    latest = max(known, key=lambda entry: entry.written_at, default=None)
    return latest is not None and ref.version != "" and latest.version == ref.version


@dataclasses.dataclass(eq=False)
class SkipKnown(Stage):
    """{"refs": ImageRef, "known": Known} → SkipOutput.

    Both collections are joined by key, so neither has to fit into the memory of a worker.

    >>> known = Known(b"a.jpg", version="1", sha256="", size=3, crc32c="", written_at=0.0)
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     refs = pipeline | "Refs" >> beam.Create([ImageRef(b"a.jpg", "1"), ImageRef(b"b.jpg", "1")])
    ...     earlier = pipeline | "Known" >> beam.Create([known])
    ...     output = {"refs": refs, "known": earlier} | SkipKnown()
    ...     _ = output.new | beam.Map(lambda ref: print(ref.key))
    b'b.jpg'

    Attributes:
      reprocess: whether all images are processed, and none is skipped.
    """

    reprocess: bool = False

    def expand(self, inputs: dict[str, beam.PCollection]) -> SkipOutput:
        keyed = {
            "refs": inputs["refs"] | "RefsByKey" >> beam.Map(_ref_by_key).with_output_types(tuple[bytes, ImageRef]),
            "known": inputs["known"] | "KnownByKey" >> beam.Map(_known_by_key).with_output_types(tuple[bytes, Known]),
        }
        outputs = (
            keyed
            | "SameKey" >> beam.CoGroupByKey()
            | "Skip" >> beam.ParDo(_Skip(self.reprocess)).with_outputs(_SKIPPED, _GONE, main=_NEW)
        )
        return SkipOutput(outputs[_NEW], outputs[_SKIPPED], outputs[_GONE])


class _Skip(beam.DoFn):
    def __init__(self, reprocess: bool):
        self._reprocess = reprocess

    def process(self, group: tuple[bytes, dict[str, Iterable]]) -> Iterable[ImageRef]:
        _, same_key = group
        known = list(same_key["known"])
        listed = False
        for ref in same_key["refs"]:
            listed = True
            if not self._reprocess and is_current(ref, known):
                counters.inc(counters.IMAGES_SKIPPED)
                yield beam.pvalue.TaggedOutput(_SKIPPED, ref)
            else:
                yield ref
        if not listed:
            for entry in known:
                yield beam.pvalue.TaggedOutput(_GONE, entry)


def _ref_by_key(ref: ImageRef) -> tuple[bytes, ImageRef]:
    return ref.key, ref


def _known_by_key(known: Known) -> tuple[bytes, Known]:
    return known.key, known
