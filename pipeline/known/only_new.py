"""Only new images are embedded: the order of the stages between listing and reading.

ledger and unfinished attempts → skip → copies → fetched vectors
"""

import dataclasses
from typing import NamedTuple

import apache_beam as beam

from pipeline.attempts.resume import ReadUnfinished, Resumed, TakeOver
from pipeline.known.fetch_vectors import FetchVectors
from pipeline.known.ledger import ReadLedger
from transforms.copies import STAGE, FindCopies
from transforms.elements.records import Copy, Embedding, Failure, ImageRef, Known, StageSeconds
from transforms.elements.stage import Stage
from transforms.skip import SkipKnown


class NewOutput(NamedTuple):
    """Images by the work that is left for them.

    Attributes:
      to_embed: refs of images to read, decode and embed.
      skipped: refs of images whose record is up to date; None if no earlier run may have one.
      known: the Known of every key that earlier runs have; None likewise.
      unlisted: those of `known` whose key is not in the listing; None likewise.
      reused: embeddings of images whose bytes an earlier run embedded.
      copies: images that get the vector of another image in `to_embed`.
      resumed: vectors of unfinished attempts at this run; None if there is no such attempt.
      resumed_copies: of images with the same bytes as one that an attempt has embedded.
      failures, seconds: the failures and times of the stages in OnlyNew.
    """

    to_embed: beam.PCollection[ImageRef]
    skipped: beam.PCollection[ImageRef] | None
    known: beam.PCollection[Known] | None
    unlisted: beam.PCollection[Known] | None
    reused: beam.PCollection[Embedding]
    copies: beam.PCollection[Copy]
    resumed: Resumed | None
    resumed_copies: Resumed | None
    failures: beam.PCollection[Failure]
    seconds: beam.PCollection[StageSeconds]


@dataclasses.dataclass(eq=False)
class OnlyNew(Stage):
    """ImageRef → NewOutput.

    Attributes:
      ledger: root → Known; None if the run ignores earlier runs.
      unfinished: root → Known of earlier attempts at this run; None if they left nothing.
      vectors: Reuse → StageOutput of Embedding.
      digest: ImageRef → StageOutput of (SHA-256, ImageRef), for images that may equal another one.
      by_crc32c: whether the listing has the CRC32C of every image. It always has the size.
      reprocess: whether to embed images that the ledger knows.
      in_packs: see JoinByKey.
    """

    ledger: ReadLedger | None
    unfinished: ReadUnfinished | None
    vectors: FetchVectors
    digest: beam.PTransform
    by_crc32c: bool
    reprocess: bool
    in_packs: bool = False

    def expand(self, refs: beam.PCollection[ImageRef]) -> NewOutput:
        nothing = refs.pipeline | "NothingKnown" >> beam.Create([]).with_output_types(Known)
        of_runs = refs.pipeline | "ReadLedger" >> self.ledger if self.ledger else nothing
        of_attempts = refs.pipeline | "ReadUnfinished" >> self.unfinished if self.unfinished else None

        listed = None
        if self.ledger or self.unfinished:
            known = _both("Known", of_runs, of_attempts)
            listed = {"refs": refs, "known": known} | "SkipKnown" >> SkipKnown(self.reprocess, self.in_packs)
        to_match = {
            "refs": listed.new if listed else refs,
            "known": _both("KnownToMatch", nothing if self.reprocess else of_runs, of_attempts),
        }
        copies = to_match | "FindCopies" >> FindCopies(self.digest, self.by_crc32c, self.in_packs)
        reused = copies.reused | "FetchVectors" >> self.vectors
        resumed, resumed_copies = None, None
        if self.unfinished and listed:
            resumed = listed.resumed | "TakeOver" >> TakeOver(self.unfinished.digest)
            resumed_copies = copies.resumed | "TakeOverForCopies" >> TakeOver(self.unfinished.digest)
        return NewOutput(
            to_embed=copies.to_embed,
            skipped=listed.skipped if listed else None,
            known=of_runs if self.ledger else None,
            unlisted=listed.unlisted if listed and self.ledger else None,
            reused=reused.main,
            copies=copies.copies,
            resumed=resumed,
            resumed_copies=resumed_copies,
            failures=(copies.failures, reused.failures) | "Failures" >> beam.Flatten(),
            seconds=copies.seconds | "ForDigests" >> beam.Map(_for_digests).with_output_types(StageSeconds),
        )


def _both(
    name: str, of_runs: beam.PCollection[Known], of_attempts: beam.PCollection[Known] | None
) -> beam.PCollection[Known]:
    return (of_runs, of_attempts) | name >> beam.Flatten() if of_attempts else of_runs


def _for_digests(seconds: StageSeconds) -> StageSeconds:
    return dataclasses.replace(seconds, stage=STAGE)
