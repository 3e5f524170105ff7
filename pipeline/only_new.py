"""Only new images are embedded: the order of the stages between listing and reading.

ledger and unfinished attempts → skip → copies → fetched vectors
"""

import dataclasses
from typing import NamedTuple

import apache_beam as beam

from pipeline.fetch_vectors import FetchVectors
from pipeline.ledger import ReadLedger
from pipeline.resume import ReadUnfinished, TakeOver
from transforms.copies import STAGE, FindCopies
from transforms.records import Copy, Embedding, Failure, ImageRef, Known, StageSeconds
from transforms.skip import SkipKnown
from transforms.stage import Stage


class Resumed(NamedTuple):
    """Vectors of unfinished attempts at this run.

    Attributes:
      embeddings: of images that an attempt has embedded.
      origins: for each of them, the attempt and its outcome there.
      copies: embeddings of images with the same bytes as one that an attempt has embedded.
    """

    embeddings: beam.PCollection[Embedding]
    origins: beam.PCollection[tuple[str, str]]
    copies: beam.PCollection[Embedding]


class NewOutput(NamedTuple):
    """Images by the work that is left for them.

    Attributes:
      to_embed: refs of images to read, decode and embed.
      skipped: refs of images whose record is up to date.
      gone: the Known of every key that the listing no longer has.
      reused: embeddings of images whose bytes an earlier run embedded.
      copies: images that get the vector of another image in `to_embed`.
      resumed: None if no unfinished attempt has left anything.
      failures, seconds: the failures and times of the stages in OnlyNew.
    """

    to_embed: beam.PCollection[ImageRef]
    skipped: beam.PCollection[ImageRef]
    gone: beam.PCollection[Known]
    reused: beam.PCollection[Embedding]
    copies: beam.PCollection[Copy]
    resumed: Resumed | None
    failures: beam.PCollection[Failure]
    seconds: beam.PCollection[StageSeconds]


@dataclasses.dataclass(eq=False)
class OnlyNew(Stage):
    """ImageRef → NewOutput.

    Attributes:
      ledger: root → Known; None if the run ignores earlier runs.
      unfinished: root → Known of earlier attempts at this run; None if they left nothing.
      vectors: Reuse → StageOutput of Embedding.
      read: ImageRef → StageOutput of EncodedImage, for images that may equal another one.
      by_crc32c: whether the listing has the CRC32C of every image. It always has the size.
      reprocess: whether to embed images that the ledger knows.
    """

    ledger: ReadLedger | None
    unfinished: ReadUnfinished | None
    vectors: FetchVectors
    read: beam.PTransform
    by_crc32c: bool
    reprocess: bool

    def expand(self, refs: beam.PCollection[ImageRef]) -> NewOutput:
        nothing = refs.pipeline | "NothingKnown" >> beam.Create([]).with_output_types(Known)
        of_runs = refs.pipeline | "ReadLedger" >> self.ledger if self.ledger else nothing
        of_attempts = refs.pipeline | "ReadUnfinished" >> self.unfinished if self.unfinished else None

        known = _both("Known", of_runs, of_attempts)
        listed = {"refs": refs, "known": known} | "SkipKnown" >> SkipKnown(self.reprocess)
        to_match = {
            "refs": listed.new,
            "known": _both("KnownToMatch", nothing if self.reprocess else of_runs, of_attempts),
        }
        copies = to_match | "FindCopies" >> FindCopies(self.read, self.by_crc32c)
        reused = copies.reused | "FetchVectors" >> self.vectors
        resumed = None
        if self.unfinished:
            taken_over = listed.resumed | "TakeOver" >> TakeOver(self.unfinished.digest)
            copied = copies.resumed | "TakeOverForCopies" >> TakeOver(self.unfinished.digest)
            resumed = Resumed(taken_over.embeddings, taken_over.origins, copied.embeddings)
        return NewOutput(
            to_embed=copies.to_embed,
            skipped=listed.skipped,
            gone=listed.gone,
            reused=reused.main,
            copies=copies.copies,
            resumed=resumed,
            failures=(copies.failures, reused.failures) | "Failures" >> beam.Flatten(),
            seconds=copies.seconds | "ForDigests" >> beam.Map(_for_digests).with_output_types(StageSeconds),
        )


def _both(
    name: str, of_runs: beam.PCollection[Known], of_attempts: beam.PCollection[Known] | None
) -> beam.PCollection[Known]:
    return (of_runs, of_attempts) | name >> beam.Flatten() if of_attempts else of_runs


def _for_digests(seconds: StageSeconds) -> StageSeconds:
    return dataclasses.replace(seconds, stage=STAGE)
