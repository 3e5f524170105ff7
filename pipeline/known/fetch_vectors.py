"""Vectors that are stored already: `Reuse`s → `Embedding`s, from the table or from the files that hold them."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import numpy as np

from pipeline import warehouse
from transforms.copies import of_copy
from transforms.elements import counters, keys
from transforms.elements.one_line import one_line
from transforms.elements.records import Embedding, Failure, ImageInfo, ImageRef, Known, Reuse
from transforms.elements.stage import FAILURES, Stage, StageOutput, with_stage_outputs
from transforms.encoding import record_files
from transforms.encoding.stored_embeddings import StoredEmbedding
from transforms.storage import files

STAGE = "reuse"

# BigQuery accepts at most 10,000 parameter values in a query.
_VECTORS_PER_QUERY = 500

# The table is clustered by model_digest and key, so BigQuery reads only the blocks that it needs.
_VECTORS = """
SELECT key, sha256, format, height, width, size, crc32c, embedding
FROM `{table}` WHERE model_digest = @digest AND key IN UNNEST(@keys)
"""


class VectorGone(LookupError):
    """A vector is no longer where the ledger read it: another run may have replaced or removed it since."""

    retryable = True  # the next run embeds the image anew


@dataclasses.dataclass(eq=False)
class FetchVectors(Stage):
    """Reuse → StageOutput of Embedding, with the vector and the facts that an earlier run recorded for equal bytes.

    Attributes: see ReadLedger.
    """

    table: str | None
    digest: str

    def expand(self, reuses: beam.PCollection[Reuse]) -> StageOutput[Embedding]:
        if self.table:
            size = _VECTORS_PER_QUERY
            batches = reuses | "Batch" >> beam.BatchElements(min_batch_size=size, max_batch_size=size)
            fetch: beam.DoFn = _FetchRows(self.table, self.digest)
        else:
            batches = reuses | "ByShard" >> GroupByShard()
            fetch = _FetchRecords(self.digest)
        return StageOutput.of(batches | "Fetch" >> with_stage_outputs(fetch, Embedding))


class GroupByShard(beam.PTransform):
    """Reuse → (shard, the reuses whose records it holds)."""

    def expand(self, reuses: beam.PCollection[Reuse]) -> beam.PCollection[tuple[str, Iterable[Reuse]]]:
        return (
            reuses
            | "ByShard" >> beam.Map(_by_shard).with_output_types(tuple[str, Reuse])
            | "SameShard" >> beam.GroupByKey()
        )


def fetch(shard: str, reuses: Iterable[Reuse], digest: str) -> Iterator[tuple[Reuse, Embedding | Exception]]:
    """Yields each reuse with the embedding of its record in a file, or with the error that reading it raised.

    Args:
      shard: the file that holds all of these records.
      reuses: in any order.
      digest: of the model that the records must have.
    """
    records = [list(same) for _, same in itertools.groupby(sorted(reuses, key=_offset), key=_offset)]
    try:
        file = files.open_stored(shard)
    except OSError as error:
        yield from ((reuse, error) for same in records for reuse in same)
        return
    with file:
        places = [same[0].known.offset for same in records]
        for same, record in zip(records, record_files.embeddings(shard, file, places), strict=True):
            yield from ((reuse, _expected(record, reuse.known, digest)) for reuse in same)


def _expected(record: StoredEmbedding | Exception, known: Known, digest: str) -> Embedding | Exception:
    """Returns the embedding of a record, or what is wrong with it."""
    if isinstance(record, Exception):
        return record
    # A run of the same name may have replaced the shard since the ledger was read.
    if (record.embedding.info.sha256, record.model_digest) != (known.sha256, digest):
        return ValueError("another record has taken its place")
    return record.embedding


class _FetchRows(beam.DoFn):
    def __init__(self, table: str, digest: str):
        self._table = table
        self._digest = digest

    def process(self, batch: Sequence[Reuse]) -> Iterable[Embedding]:
        texts = sorted({keys.text(reuse.known.key) for reuse in batch})
        rows = warehouse.tables.query(self._table, _VECTORS.format(table=self._table), digest=self._digest, keys=texts)
        by_sha256 = {row["sha256"]: row for row in rows}
        for reuse in batch:
            row = by_sha256.get(reuse.known.sha256)
            if row is None:
                yield _gone(reuse, f"the row of {keys.text(reuse.known.key)!r} is gone")
                continue
            info = ImageInfo(
                ImageRef(reuse.ref.key, reuse.ref.version, row["size"], row["crc32c"]),
                sha256=row["sha256"],
                format=row["format"],
                height=row["height"],
                width=row["width"],
            )
            yield _reused(Embedding(info, np.array(row["embedding"], np.float32)), reuse)


class _FetchRecords(beam.DoFn):
    def __init__(self, digest: str):
        self._digest = digest

    def process(self, group: tuple[str, Iterable[Reuse]]) -> Iterable[Embedding]:
        shard, reuses = group
        for reuse, embedding in fetch(shard, reuses, self._digest):
            if isinstance(embedding, Embedding):
                yield _reused(embedding, reuse)
            else:
                yield _gone(reuse, f"{one_line(embedding)} (at {reuse.known.offset} of {shard})")


def _reused(embedding: Embedding, reuse: Reuse) -> Embedding:
    counters.inc(counters.IMAGES_REUSED)
    return of_copy(embedding, reuse.ref)


def _gone(reuse: Reuse, reason: str) -> beam.pvalue.TaggedOutput:
    error = VectorGone(f"{reason}: expected the vector of these bytes; the next run embeds them anew")
    return beam.pvalue.TaggedOutput(FAILURES, Failure.of(reuse.ref.key, STAGE, error))


def _by_shard(reuse: Reuse) -> tuple[str, Reuse]:
    return reuse.known.shard, reuse


def _offset(reuse: Reuse) -> int:
    return reuse.known.offset
