"""Only what is new: what the ledger knows is taken out before anything is read or embedded for it."""

import dataclasses

import apache_beam as beam

from pipeline.ledger import FetchVectors, ReadLedger
from transforms.copies import COPIES, REUSED, FindCopies
from transforms.records import FAILURES, SECONDS, ImageRef, Known, StageSeconds
from transforms.skip import GONE, SKIPPED, SkipKnown

# The stage of reading for a digest: what is read for its pixels is another time.
STAGE = "digest"


@dataclasses.dataclass(eq=False)
class OnlyNew(beam.PTransform):
    """ImageRef → {"refs": those to embed, SKIPPED, GONE, REUSED: Embedding, COPIES, FAILURES, SECONDS}.

    Attributes:
      ledger: root → Known; None where nobody asks it.
      vectors: Reuse → Embedding.
      read: ImageRef → EncodedImage, of what may have a twin.
      by_crc32c: whether the listing gives the CRC32C of every image; the size it always gives.
      reprocess: the ledger takes nothing out.
    """

    ledger: ReadLedger | None
    vectors: FetchVectors
    read: beam.PTransform
    by_crc32c: bool
    reprocess: bool

    def expand(self, refs: beam.PCollection[ImageRef]) -> dict[str, beam.PCollection]:
        nothing = refs.pipeline | "NothingKnown" >> beam.Create([]).with_output_types(Known)
        known = refs.pipeline | "ReadLedger" >> self.ledger if self.ledger else nothing
        left = {"refs": refs, "known": known} | "SkipKnown" >> SkipKnown(self.reprocess)
        to_match = {"refs": left["refs"], "known": nothing if self.reprocess else known}
        found = to_match | "FindCopies" >> FindCopies(self.read, self.by_crc32c)
        reused = found[REUSED] | "FetchVectors" >> self.vectors
        return {
            "refs": found["refs"],
            SKIPPED: left[SKIPPED],
            GONE: left[GONE],
            REUSED: reused["embeddings"],
            COPIES: found[COPIES],
            FAILURES: (found[FAILURES], reused[FAILURES]) | "Failures" >> beam.Flatten(),
            SECONDS: found[SECONDS] | "ForDigests" >> beam.Map(_for_digests).with_output_types(StageSeconds),
        }


def _for_digests(busy: StageSeconds) -> StageSeconds:
    return dataclasses.replace(busy, stage=STAGE)
