"""The ledger: what earlier runs have written, read back from where they wrote it.

That is the table where there is one, otherwise the shards in the output directory: no list of its own that could tell
something else than what is there. What this very run has written says nothing: a runner that loses a worker late starts
the job again, which would find all done, and what it does not write anew is removed.
"""

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import apache_beam as beam
import numpy as np

from pipeline.warehouse import tables
from transforms import counters, failures, write_tfrecord
from transforms.copies import of_copy
from transforms.encoding import examples, tfrecord
from transforms.records import FAILURES, Embedding, Failure, ImageInfo, ImageRef, Known, Reuse, key, uri
from transforms.storage import files
from transforms.write_bigquery import key_of, text

STAGE = "reuse"

# Rows that a worker asks for at once: some megabytes of names.
_RANGE = 50_000
# Vectors that one query fetches; BigQuery takes at most 10,000 parameter values.
_FETCH = 500
_DECODE = 512
# Far above any embedding: a bound on what a broken file can make a reader allocate.
_MAX_RECORD_BYTES = 2**26

# Clustering by model_digest and key lets BigQuery read just the blocks that it needs.
_KNOWN = """
SELECT key, version, sha256, size, crc32c, UNIX_MICROS(embedded_at) AS written_at
FROM `{table}` WHERE model_digest = @digest AND run_id != @run_id
"""
_VECTORS = """
SELECT key, sha256, format, height, width, size, crc32c, embedding
FROM `{table}` WHERE model_digest = @digest AND key IN UNNEST(@keys)
"""
_LATEST_FAILURES = """
SELECT key, retryable FROM `{table}`
WHERE TRUE QUALIFY ROW_NUMBER() OVER (PARTITION BY key ORDER BY failed_at DESC) = 1
"""


class VectorGone(LookupError):
    """A vector is not where the ledger found it: other runs may have replaced or removed it since."""


@dataclasses.dataclass(eq=False)
class ReadLedger(beam.PTransform):
    """Pipeline → Known, for one model digest.

    Attributes:
      table: PROJECT.DATASET.TABLE, or None: the files below `output` count.
      output: a directory that runs have written to.
      digest: of the model.
      run_id: of this run.
    """

    table: str | None
    output: str | None
    digest: str
    run_id: str

    def expand(self, root: Any) -> beam.PCollection[Known]:
        if self.table:
            parts = (
                root | "Table" >> beam.Create([self.table]) | "Query" >> beam.FlatMap(_ranges, self.digest, self.run_id)
            )
            read = beam.FlatMap(_known_rows)
        else:
            own = write_tfrecord.directory(self.output or "", self.run_id)
            pattern = f"{write_tfrecord.directory(self.output or '', '*')}/part-*.tfrecord"
            parts = root | "Shards" >> beam.Create([pattern]) | "Match" >> beam.FlatMap(_shards, own)
            read = beam.FlatMap(_known_records, self.digest)
        return parts | "Spread" >> beam.Reshuffle() | "Read" >> read.with_output_types(Known)


@dataclasses.dataclass(eq=False)
class FetchVectors(beam.PTransform):
    """Reuse → Embedding, with the vector and the facts of the equal bytes; `Failure`s under their tag.

    Attributes: see ReadLedger.
    """

    table: str | None
    digest: str

    def expand(self, reuses: beam.PCollection[Reuse]) -> beam.pvalue.DoOutputsTuple:
        if self.table:
            batches = reuses | "Batch" >> beam.BatchElements(min_batch_size=_FETCH, max_batch_size=_FETCH)
            fetch: beam.DoFn = _FetchRows(self.table, self.digest)
        else:
            batches = (
                reuses
                | "ByShard" >> beam.Map(_by_shard).with_output_types(tuple[str, Reuse])
                | "SameShard" >> beam.GroupByKey()
            )
            fetch = _FetchRecords(self.digest)
        return batches | "Fetch" >> beam.ParDo(fetch).with_outputs(FAILURES, main="embeddings")


@dataclasses.dataclass(eq=False)
class ReadRetryable(beam.PTransform):
    """Pipeline → ImageRef without version, of every image whose latest failure in an earlier run is one that may pass.

    Attributes:
      table, output, run_id: see ReadLedger.
      patterns: just the keys that one of them matches; all, where there is none.
    """

    table: str | None
    output: str | None
    patterns: tuple[str, ...]
    run_id: str

    def expand(self, root: Any) -> beam.PCollection[ImageRef]:
        if self.table:
            parts = root | "Table" >> beam.Create([self.table])
            read = beam.FlatMap(_failed_rows)
        else:
            own = failures.directory(self.output or "", self.run_id)
            pattern = f"{failures.directory(self.output or '', '*')}/part-*.jsonl"
            parts = root | "Shards" >> beam.Create([pattern]) | "Match" >> beam.FlatMap(_shards, own)
            read = beam.FlatMap(_failed_lines)
        return (
            parts
            | "Read" >> read.with_output_types(tuple[bytes, tuple[float, bool]])
            | "Matching" >> beam.Filter(_matches, self.patterns)
            | "Latest" >> beam.CombinePerKey(max)
            | "Refs" >> beam.FlatMapTuple(_refs).with_output_types(ImageRef)
        )


def _shards(pattern: str, own: str) -> Iterator[tuple[str, float]]:
    for metadata in files.match(pattern):
        if not metadata.path.startswith(f"{own}/"):
            yield metadata.path, metadata.last_updated_in_seconds


def _known_records(shard: tuple[str, float], digest: str) -> Iterator[Known]:
    path, written_at = shard
    try:
        with files.open_stored(path) as file:
            records, offset = tfrecord.read(file, _MAX_RECORD_BYTES), 0
            while batch := list(itertools.islice(records, _DECODE)):
                for record, found in zip(batch, examples.decode_identities(batch), strict=True):
                    if found.model_digest == digest:
                        yield Known(*found[:-1], written_at, path, offset)
                    offset += tfrecord.framed_bytes(record)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; move it away, and the images that are in it are embedded anew") from error
    except Exception:
        # A run that was started anew, or overwrites, may have removed its shards since they were listed.
        if files.match(path):
            raise


def _ranges(table: str, digest: str, run_id: str) -> Iterator[tuple[str, str, str, int]]:
    """Yields the parts of one query's result: (project, job, location, first row)."""
    result = tables.start(table, _KNOWN.format(table=table), digest=digest, run_id=run_id)
    for first in range(0, result.total, _RANGE):
        yield result.project, result.job, result.location, first


def _known_rows(part: tuple[str, str, str, int]) -> Iterator[Known]:
    for row in tables.rows(*part, _RANGE):
        written_at = row["written_at"] / 1e6
        yield Known(key_of(row["key"]), row["version"], row["sha256"], row["size"], row["crc32c"], written_at)


class _FetchRows(beam.DoFn):
    def __init__(self, table: str, digest: str):
        self._table = table
        self._digest = digest

    def process(self, batch: Sequence[Reuse]) -> Iterable[Embedding]:
        keys = sorted({text(reuse.known.key) for reuse in batch})
        rows = tables.query(self._table, _VECTORS.format(table=self._table), digest=self._digest, keys=keys)
        by_sha256 = {row["sha256"]: row for row in rows}
        for reuse in batch:
            row = by_sha256.get(reuse.known.sha256)
            if row is None:
                yield _gone(reuse, f"the row of {text(reuse.known.key)!r} is gone")
                continue
            info = ImageInfo(
                reuse.ref.key,
                reuse.ref.version,
                row["sha256"],
                row["format"],
                row["height"],
                row["width"],
                row["size"],
                row["crc32c"],
            )
            yield _reused(Embedding(info, np.array(row["embedding"], np.float32)), reuse)


class _FetchRecords(beam.DoFn):
    def __init__(self, digest: str):
        self._digest = digest

    def process(self, group: tuple[str, Iterable[Reuse]]) -> Iterable[Embedding]:
        path, reuses = group
        with contextlib.ExitStack() as opened:
            file: BinaryIO | None = None
            for offset, at_offset in itertools.groupby(sorted(reuses, key=_offset), key=_offset):
                same = list(at_offset)
                try:
                    if file is None:
                        file = opened.enter_context(files.open_stored(path))
                    embedding = self._read(file, same[0].known)
                except Exception as error:  # noqa: BLE001 - each storage client has errors of its own
                    why = f"{files.reason(error)} (at byte {offset} of {path})"
                    yield from (_gone(reuse, why) for reuse in same)
                else:
                    yield from (_reused(embedding, reuse) for reuse in same)

    def _read(self, file: BinaryIO, known: Known) -> Embedding:
        file.seek(known.offset)
        record = next(tfrecord.read(file, _MAX_RECORD_BYTES), b"")
        (found,) = examples.decode_identities([record])
        # A run of the same name may have replaced the shard since the ledger was read.
        if (found.sha256, found.model_digest) != (known.sha256, self._digest):
            raise ValueError("there is another record by now")
        _, vectors, _ = examples.decode_embeddings([record])
        facts = examples.decode_facts(record)
        info = ImageInfo(found.key, found.version, found.sha256, *facts, found.size, found.crc32c)
        return Embedding(info, vectors[0])


def _reused(embedding: Embedding, reuse: Reuse) -> Embedding:
    counters.inc(counters.IMAGES_REUSED)
    return of_copy(embedding, reuse.ref)


def _gone(reuse: Reuse, why: str) -> beam.pvalue.TaggedOutput:
    error = VectorGone(f"{why}: expected the vector of these bytes; the next run embeds them anew")
    return beam.pvalue.TaggedOutput(FAILURES, Failure.of(reuse.ref.key, STAGE, error, retryable=True))


def _by_shard(reuse: Reuse) -> tuple[str, Reuse]:
    return reuse.known.shard, reuse


def _offset(reuse: Reuse) -> int:
    return reuse.known.offset


def _failed_rows(table: str) -> Iterator[tuple[bytes, tuple[float, bool]]]:
    for row in tables.query(table, _LATEST_FAILURES.format(table=tables.failures_table(table))):
        yield key_of(row["key"]), (0.0, row["retryable"])


def _failed_lines(shard: tuple[str, float]) -> Iterator[tuple[bytes, tuple[float, bool]]]:
    path, written_at = shard
    with files.open_stored(path) as file:
        for line in file:
            failure = json.loads(line)
            yield key(failure["key"]), (written_at, failure["retryable"])


def _matches(failed: tuple[bytes, tuple[float, bool]], patterns: tuple[str, ...]) -> bool:
    return not patterns or any(files.takes_in(pattern, uri(failed[0])) for pattern in patterns)


def _refs(found: bytes, latest: tuple[float, bool]) -> Iterator[ImageRef]:
    if latest[1]:
        counters.inc(counters.IMAGES_LISTED)
        yield ImageRef(found, "", -1)
