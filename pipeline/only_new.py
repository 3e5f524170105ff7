"""Only new images: takes out the images that earlier runs have embedded, before any work is done for them."""

import dataclasses
from typing import NamedTuple

import apache_beam as beam

from pipeline.ledger import FetchVectors, ReadLedger
from transforms.copies import FindCopies
from transforms.records import Copy, Embedding, Failure, ImageRef, Known, StageSeconds
from transforms.skip import SkipKnown
from transforms.stage import Stage

# The report times reading for digests as a stage of its own, apart from reading for pixels.
STAGE = "digest"


class NewOutput(NamedTuple):
    """Images by the work that is left for them.

    Attributes:
      to_embed: refs of images to read, decode and embed.
      skipped: refs of images whose record is up to date.
      gone: the Known of every key that the listing no longer has.
      reused: embeddings of images whose bytes an earlier run embedded.
      copies: images that get the vector of another image in `to_embed`.
      failures, seconds: the failures and times of the stages in OnlyNew.
    """

    to_embed: beam.PCollection[ImageRef]
    skipped: beam.PCollection[ImageRef]
    gone: beam.PCollection[Known]
    reused: beam.PCollection[Embedding]
    copies: beam.PCollection[Copy]
    failures: beam.PCollection[Failure]
    seconds: beam.PCollection[StageSeconds]


@dataclasses.dataclass(eq=False)
class OnlyNew(Stage):
    """ImageRef → NewOutput.

    Attributes:
      ledger: root → Known; None if the run ignores earlier runs.
      vectors: Reuse → StageOutput of Embedding.
      read: ImageRef → StageOutput of EncodedImage, for images that may equal another one.
      by_crc32c: whether the listing has the CRC32C of every image. It always has the size.
      reprocess: whether to embed images that the ledger knows.
    """

    ledger: ReadLedger | None
    vectors: FetchVectors
    read: beam.PTransform
    by_crc32c: bool
    reprocess: bool

    def expand(self, refs: beam.PCollection[ImageRef]) -> NewOutput:
        nothing = refs.pipeline | "NothingKnown" >> beam.Create([]).with_output_types(Known)
        known = refs.pipeline | "ReadLedger" >> self.ledger if self.ledger else nothing
        listed = {"refs": refs, "known": known} | "SkipKnown" >> SkipKnown(self.reprocess)
        to_match = {"refs": listed.new, "known": nothing if self.reprocess else known}
        copies = to_match | "FindCopies" >> FindCopies(self.read, self.by_crc32c)
        reused = copies.reused | "FetchVectors" >> self.vectors
        return NewOutput(
            to_embed=copies.to_embed,
            skipped=listed.skipped,
            gone=listed.gone,
            reused=reused.main,
            copies=copies.copies,
            failures=(copies.failures, reused.failures) | "Failures" >> beam.Flatten(),
            seconds=copies.seconds | "ForDigests" >> beam.Map(_for_digests).with_output_types(StageSeconds),
        )


def _for_digests(seconds: StageSeconds) -> StageSeconds:
    return dataclasses.replace(seconds, stage=STAGE)
