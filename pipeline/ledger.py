"""The ledger: the records of earlier runs, read back from the table or, without one, from the shards in the output.

There is no separate list, which could differ from the records themselves. The ledger ignores the records of its own
run. When a runner loses a worker late, it starts the job again. The second attempt would then skip every image, and the
run would remove the records of the first attempt as leftovers.
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
from transforms import counters, failures, keys, table_name, write_tfrecord
from transforms.copies import of_copy
from transforms.encoding import examples, tfrecord
from transforms.one_line import one_line
from transforms.records import Embedding, Failure, ImageInfo, ImageRef, Known, Reuse
from transforms.stage import FAILURES, Stage, StageOutput, with_stage_outputs
from transforms.storage import files

STAGE = "reuse"

# Rows per request of a worker: some megabytes of names.
_ROWS_PER_PART = 50_000
# BigQuery accepts at most 10,000 parameter values in a query.
_VECTORS_PER_QUERY = 500
_RECORDS_PER_DECODE = 512
# Far above any embedding: it limits the memory that a reader of a broken file allocates.
_MAX_RECORD_BYTES = 2**26

# The table is clustered by model_digest and key, so BigQuery reads only the blocks that it needs.
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
    """A vector is no longer where the ledger read it: another run may have replaced or removed it since."""


@dataclasses.dataclass(eq=False)
class ReadLedger(beam.PTransform):
    """Pipeline → Known, for one model digest.

    Attributes:
      table: PROJECT.DATASET.TABLE; None to read the files below `output`.
      output: a directory that runs have written to.
      digest: the digest of the model.
      run_id: the name of this run, whose own records are ignored.
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
            batches = (
                reuses
                | "ByShard" >> beam.Map(_by_shard).with_output_types(tuple[str, Reuse])
                | "SameShard" >> beam.GroupByKey()
            )
            fetch = _FetchRecords(self.digest)
        return StageOutput.of(batches | "Fetch" >> with_stage_outputs(fetch))


@dataclasses.dataclass(eq=False)
class ReadRetryable(beam.PTransform):
    """Pipeline → ImageRef without version, of every image whose latest failure in an earlier run is retryable.

    Attributes:
      table, output, run_id: see ReadLedger.
      patterns: only keys that one of these matches; all keys if there is none.
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
            while batch := list(itertools.islice(records, _RECORDS_PER_DECODE)):
                for record, identity in zip(batch, examples.decode_identities(batch), strict=True):
                    if identity.model_digest == digest:
                        yield Known(
                            key=identity.key,
                            version=identity.version,
                            sha256=identity.sha256,
                            size=identity.size,
                            crc32c=identity.crc32c,
                            written_at=written_at,
                            shard=path,
                            offset=offset,
                        )
                    offset += tfrecord.framed_bytes(record)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; move it away, and the images that are in it are embedded anew") from error
    except Exception:
        # A run that started over, or that overwrites, may have removed its shards since the listing.
        if files.match(path):
            raise


def _ranges(table: str, digest: str, run_id: str) -> Iterator[tuple[str, str, str, int]]:
    """Yields the parts of one query's result: (project, job, location, first row)."""
    result = tables.start(table, _KNOWN.format(table=table), digest=digest, run_id=run_id)
    for first in range(0, result.total, _ROWS_PER_PART):
        yield result.project, result.job, result.location, first


def _known_rows(part: tuple[str, str, str, int]) -> Iterator[Known]:
    for row in tables.rows(*part, _ROWS_PER_PART):
        yield Known(
            key=keys.of_text(row["key"]),
            version=row["version"],
            sha256=row["sha256"],
            size=row["size"],
            crc32c=row["crc32c"],
            written_at=row["written_at"] / 1e6,
        )


class _FetchRows(beam.DoFn):
    def __init__(self, table: str, digest: str):
        self._table = table
        self._digest = digest

    def process(self, batch: Sequence[Reuse]) -> Iterable[Embedding]:
        texts = sorted({keys.text(reuse.known.key) for reuse in batch})
        rows = tables.query(self._table, _VECTORS.format(table=self._table), digest=self._digest, keys=texts)
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
        path, reuses = group
        with contextlib.ExitStack() as stack:
            file: BinaryIO | None = None
            for offset, at_offset in itertools.groupby(sorted(reuses, key=_offset), key=_offset):
                of_record = list(at_offset)
                try:
                    if file is None:
                        file = stack.enter_context(files.open_stored(path))
                    embedding = self._read(file, of_record[0].known)
                except Exception as error:  # noqa: BLE001 - each storage client raises errors of its own
                    reason = f"{one_line(error)} (at byte {offset} of {path})"
                    yield from (_gone(reuse, reason) for reuse in of_record)
                else:
                    yield from (_reused(embedding, reuse) for reuse in of_record)

    def _read(self, file: BinaryIO, known: Known) -> Embedding:
        file.seek(known.offset)
        record = next(tfrecord.read(file, _MAX_RECORD_BYTES), b"")
        (identity,) = examples.decode_identities([record])
        # A run of the same name may have replaced the shard since the ledger was read.
        if (identity.sha256, identity.model_digest) != (known.sha256, self._digest):
            raise ValueError("another record has taken its place")
        _, vectors, _ = examples.decode_embeddings([record])
        image_format, height, width = examples.decode_facts(record)
        info = ImageInfo(
            ImageRef(identity.key, identity.version, identity.size, identity.crc32c),
            sha256=identity.sha256,
            format=image_format,
            height=height,
            width=width,
        )
        return Embedding(info, vectors[0])


def _reused(embedding: Embedding, reuse: Reuse) -> Embedding:
    counters.inc(counters.IMAGES_REUSED)
    return of_copy(embedding, reuse.ref)


def _gone(reuse: Reuse, reason: str) -> beam.pvalue.TaggedOutput:
    error = VectorGone(f"{reason}: expected the vector of these bytes; the next run embeds them anew")
    return beam.pvalue.TaggedOutput(FAILURES, Failure.of(reuse.ref.key, STAGE, error, retryable=True))


def _by_shard(reuse: Reuse) -> tuple[str, Reuse]:
    return reuse.known.shard, reuse


def _offset(reuse: Reuse) -> int:
    return reuse.known.offset


def _failed_rows(table: str) -> Iterator[tuple[bytes, tuple[float, bool]]]:
    for row in tables.query(table, _LATEST_FAILURES.format(table=table_name.failures(table))):
        yield keys.of_text(row["key"]), (0.0, row["retryable"])


def _failed_lines(shard: tuple[str, float]) -> Iterator[tuple[bytes, tuple[float, bool]]]:
    path, written_at = shard
    with files.open_stored(path) as file:
        for line in file:
            failure = json.loads(line)
            yield keys.of_uri(failure["key"]), (written_at, failure["retryable"])


def _matches(failed: tuple[bytes, tuple[float, bool]], patterns: tuple[str, ...]) -> bool:
    return not patterns or any(files.takes_in(pattern, keys.uri(failed[0])) for pattern in patterns)


def _refs(key: bytes, latest: tuple[float, bool]) -> Iterator[ImageRef]:
    if latest[1]:
        counters.inc(counters.IMAGES_LISTED)
        yield ImageRef(key)
