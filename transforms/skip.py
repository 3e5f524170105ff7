"""Skipping: an image that is already embedded and has not changed is not even read.

Either an earlier run has embedded it, or an unfinished attempt at this run.
"""

import dataclasses
import operator
from collections.abc import Iterable
from typing import NamedTuple

import apache_beam as beam

from transforms.elements import counters
from transforms.elements.packs import JoinByKey, by_key
from transforms.elements.record_coders import of_bytes
from transforms.elements.records import ImageRef, Known, Reuse
from transforms.elements.stage import Stage

_KEY = operator.attrgetter("key")
_NEW, _SKIPPED, _RESUMED, _UNLISTED = "new", "skipped", "resumed", "unlisted"


class SkipOutput(NamedTuple):
    """Images by whether earlier runs have a current record of them.

    Attributes:
      new: refs of images that are new or have changed.
      skipped: refs of images whose record is current.
      resumed: images with a current record of an unfinished attempt at this run.
      unlisted: the Known of every key that earlier runs have and that is not listed. The image may still exist.
    """

    new: beam.PCollection[ImageRef]
    skipped: beam.PCollection[ImageRef]
    resumed: beam.PCollection[Reuse]
    unlisted: beam.PCollection[Known]


def is_current(ref: ImageRef, known: Iterable[Known]) -> bool:
    """Returns whether the latest record of this key has the version that was listed.

    An unknown version, "", is never current, because two unknown versions may have different contents.
    """
    latest = max(known, key=lambda entry: entry.written_at, default=None)
    return latest is not None and ref.version != "" and latest.version == ref.version


def first_current(ref: ImageRef, unfinished: Iterable[Known]) -> Known | None:
    """Returns the first record of this key with the listed version, and the listed checksum if known; else None."""
    current = [
        entry
        for entry in unfinished
        if ref.version and entry.version == ref.version and ref.crc32c in ("", entry.crc32c)
    ]
    return min(current, key=lambda entry: (entry.attempt, entry.shard, entry.offset), default=None)


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
      reprocess: whether to embed again the images that an earlier run has embedded.
      in_packs: see JoinByKey.
    """

    reprocess: bool = False
    in_packs: bool = False

    def expand(self, inputs: dict[str, beam.PCollection]) -> SkipOutput:
        keyed = {name: inputs[name] | f"{name.title()}ByKey" >> by_key(_KEY) for name in ("refs", "known")}
        skip = beam.ParDo(_Skip(self.reprocess)).with_output_types(
            ImageRef, **{_SKIPPED: ImageRef, _RESUMED: Reuse, _UNLISTED: Known}
        )
        joined = keyed | "SameKey" >> JoinByKey(self.in_packs)
        outputs = joined | "Skip" >> skip.with_outputs(_SKIPPED, _RESUMED, _UNLISTED, main=_NEW)
        return SkipOutput(outputs[_NEW], outputs[_SKIPPED], outputs[_RESUMED], outputs[_UNLISTED])


class _Skip(beam.DoFn):
    def __init__(self, reprocess: bool):
        self._reprocess = reprocess

    def process(self, group: tuple[bytes, dict[str, Iterable[bytes]]]) -> Iterable[ImageRef]:
        _, same_key = group
        entries = [of_bytes(Known, encoded) for encoded in same_key["known"]]
        known = [entry for entry in entries if not entry.attempt]
        unfinished = [entry for entry in entries if entry.attempt]
        listed = False
        for encoded in same_key["refs"]:
            ref = of_bytes(ImageRef, encoded)
            listed = True
            if current := first_current(ref, unfinished):
                yield beam.pvalue.TaggedOutput(_RESUMED, Reuse(ref, current))
            elif not self._reprocess and is_current(ref, known):
                counters.inc(counters.IMAGES_SKIPPED)
                yield beam.pvalue.TaggedOutput(_SKIPPED, ref)
            else:
                yield ref
        if not listed:
            for entry in known:
                yield beam.pvalue.TaggedOutput(_UNLISTED, entry)
