"""The ledger: the records of earlier runs, read back from the table or, without one, from the shards in the output.

There is no separate list, which could differ from the records themselves. The ledger ignores the records of its own
run. `resume.py` reads those that unfinished attempts at it have left.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam

from pipeline import warehouse
from transforms import failures
from transforms.elements import counters, keys, table_name
from transforms.elements.formats import one_of_each_run
from transforms.elements.one_line import one_line
from transforms.elements.records import Failure, ImageRef, Known
from transforms.elements.stage import FAILURES, Stage, StageOutput, with_stage_outputs
from transforms.encoding import record_files
from transforms.encoding.stored_embeddings import Identity
from transforms.list import STAGE as LIST
from transforms.output import layout
from transforms.storage import files, globs

_LOG = logging.getLogger(__name__)

# Rows per request of a worker: some megabytes of names.
_ROWS_PER_PART = 50_000

_KNOWN = """
SELECT key, version, sha256, size, crc32c, UNIX_MICROS(embedded_at) AS written_at, IFNULL(shard = '', FALSE) AS is_file
FROM `{table}` WHERE model_digest = @digest AND run_id != @run_id
"""
_LATEST_FAILURES = """
SELECT key, retryable, IFNULL(is_file, FALSE) AS is_file FROM `{table}`
WHERE TRUE QUALIFY ROW_NUMBER() OVER (PARTITION BY key ORDER BY failed_at DESC) = 1
"""


@dataclasses.dataclass(eq=False)
class ReadLedger(beam.PTransform):
    """Pipeline → Known, for one model digest.

    Attributes:
      table: PROJECT.DATASET.TABLE; None to read the files below `output`.
      output: a directory that runs have written to.
      digest: the digest of the model.
      run_id: the name of this run, whose own records are ignored.
      vector_type: of this run. A run in float32 ignores vectors in float16.
    """

    table: str | None
    output: str | None
    digest: str
    run_id: str
    vector_type: str = "float32"

    def expand(self, root: Any) -> beam.PCollection[Known]:
        if self.table:
            parts = (
                root | "Table" >> beam.Create([self.table]) | "Query" >> beam.FlatMap(_ranges, self.digest, self.run_id)
            )
            read = beam.FlatMap(_known_rows)
        else:
            parts = root | "Output" >> beam.Create([self.output or ""]) | "Match" >> beam.FlatMap(_vectors, self.run_id)
            read = beam.FlatMap(_known_records, self.digest, self.vector_type)
        return parts | "Spread" >> beam.Reshuffle() | "Read" >> read.with_output_types(Known)


def may_have_records(table: str | None, output: str | None, run_id: str) -> bool:
    """Returns whether there may be records of earlier runs. A table may have some; files are looked for.

    Raises:
      OSError: if the files cannot be listed.
    """
    if table or not output:
        return True
    pattern = layout.shards(layout.vectors(output, "*"))
    own = len(files.match(layout.shards(layout.vectors(output, run_id))))
    # One file more shows that there are others. Listing all of them may take many requests.
    return len(files.match(pattern, own + 1)) > own


@dataclasses.dataclass(eq=False)
class ReadRetryable(Stage):
    """Pipeline → StageOutput of ImageRef without version: the images whose latest failure is retryable.

    A key counts only if its failure says that it was listed as a file. A TFRecord brings keys of its own. If such a key
    is the path of a file on this machine, that file must not be read. Keys in failures of earlier versions never count.

    A broken file of failures is a failure itself, `BrokenFailures`. Its lines before the break count.

    Attributes:
      table, output, run_id: see ReadLedger.
      patterns: only keys that one of these matches; all keys if there is none.
    """

    table: str | None
    output: str | None
    patterns: tuple[str, ...]
    run_id: str

    def expand(self, root: Any) -> StageOutput[ImageRef]:
        if self.table:
            parts = root | "Table" >> beam.Create([self.table])
            read = _ReadFailed(_failed_rows)
        else:
            own = layout.failures(self.output or "", self.run_id)
            pattern = layout.shards(layout.failures(self.output or "", "*"), layout.FAILURE_SUFFIX)
            parts = root | "Shards" >> beam.Create([pattern]) | "Match" >> beam.FlatMap(_shards, own)
            read = _ReadFailed(_failed_lines)
        failed = StageOutput.of(parts | "Read" >> with_stage_outputs(read, tuple[bytes, tuple[float, bool]]))
        refs = (
            failed.main
            | "Matching" >> beam.Filter(_matches, self.patterns)
            | "Latest" >> beam.CombinePerKey(max)
            | "Refs" >> beam.FlatMapTuple(_refs).with_output_types(ImageRef)
        )
        return failed._replace(main=refs)


class BrokenFailures(ValueError):
    """A file of failures that is cut off, empty or of another kind."""


class _ReadFailed(beam.DoFn):
    def __init__(self, read: Callable[[Any], Iterator[Any]]):
        self._read = read

    def process(self, part: Any) -> Iterator[Any]:
        for failed in self._read(part):
            if isinstance(failed, Failure):
                counters.inc(counters.IMAGES_LISTED)
                failed = beam.pvalue.TaggedOutput(FAILURES, failed)
            yield failed


def _vectors(output: str, run_id: str) -> list[tuple[str, float]]:
    """Returns the files of vectors of other runs, in one format per run, and when each was written."""
    pattern, own = layout.shards(layout.vectors(output, "*")), layout.vectors(output, run_id)
    written = {path: at for path, at in _shards(pattern, own) if path.endswith(layout.VECTOR_SUFFIXES)}
    return [(path, written[path]) for path in one_of_each_run(list(written))]


def _shards(pattern: str, own: str) -> Iterator[tuple[str, float]]:
    for metadata in files.match(pattern):
        if not metadata.path.startswith(f"{own}/"):
            yield metadata.path, metadata.changed


def _known_records(shard: tuple[str, float], digest: str, vector_type: str) -> Iterator[Known]:
    path, written_at = shard
    try:
        with files.open_stored(path) as file:
            for place, identity in record_files.identities(path, file, vector_type=vector_type):
                if identity.model_digest == digest:
                    yield known(identity, path, place, written_at)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; move it away, and the images that are in it are embedded anew") from error
    except OSError:
        # A run that started over, or that overwrites, may have removed its shards since the listing.
        if files.match(path):
            raise


def known(identity: Identity, path: str, place: int, written_at: float, attempt: str = "") -> Known:
    """Returns the Known of a record in a file.

    Args:
      identity: of the record.
      path: of the file.
      place: of the record in it, as `record_files.identities` yields it.
      written_at: seconds since 1970.
      attempt: see Known.
    """
    return Known(
        key=identity.key,
        version=identity.version,
        sha256=identity.sha256,
        size=identity.size,
        crc32c=identity.crc32c,
        written_at=written_at,
        shard=path,
        offset=place,
        attempt=attempt,
        is_file=identity.is_file,
    )


def _ranges(table: str, digest: str, run_id: str) -> Iterator[tuple[str, str, str, int]]:
    """Yields the parts of one query's result: (project, job, location, first row)."""
    result = warehouse.tables.start(table, _KNOWN.format(table=table), digest=digest, run_id=run_id)
    for first in range(0, result.total, _ROWS_PER_PART):
        yield result.project, result.job, result.location, first


def _known_rows(part: tuple[str, str, str, int]) -> Iterator[Known]:
    for row in warehouse.tables.rows(*part, _ROWS_PER_PART):
        yield Known(
            key=keys.of_text(row["key"]),
            version=row["version"],
            sha256=row["sha256"],
            size=row["size"],
            crc32c=row["crc32c"],
            written_at=row["written_at"] / 1e6,
            is_file=row["is_file"],
        )


def _failed_rows(table: str) -> Iterator[tuple[bytes, tuple[float, bool]]]:
    rows = warehouse.tables.query(table, _LATEST_FAILURES.format(table=table_name.failures(table)))
    for row in rows:
        yield keys.of_text(row["key"]), (0.0, row["retryable"] and row["is_file"])
    _warn_of_others(table, sum(row["retryable"] and not row["is_file"] for row in rows))


def _failed_lines(shard: tuple[str, float]) -> Iterator[tuple[bytes, tuple[float, bool]] | Failure]:
    path, written_at = shard
    number = others = 0
    try:
        with files.open_stored(path) as file:
            for number, line in enumerate(file, 1):  # noqa: B007
                key, retryable, is_file = failures.of_json(line)
                others += retryable and not is_file
                yield key, (written_at, retryable and is_file)
        _warn_of_others(path, others)
        if not number:
            raise ValueError("empty")
    except ValueError as error:
        broken = BrokenFailures(
            f"{path}: line {max(number, 1):,}: {one_line(error)}: expected a failure in JSON; images from there on are "
            "not tried again, and a run without --retry_failed lists them"
        )
        yield Failure.of(keys.of_uri(path), LIST, broken)
    except OSError:
        # A run that overwrites may have removed it since the listing.
        if files.match(path):
            raise


def _warn_of_others(place: str, count: int) -> None:
    if count:
        _LOG.warning(
            "%s: --retry_failed leaves out %d failed images: each was in a shard, or failed in an earlier version of "
            "this program, which did not say so; a run without --retry_failed lists them again",
            place,
            count,
        )


def _matches(failed: tuple[bytes, tuple[float, bool]], patterns: tuple[str, ...]) -> bool:
    return not patterns or any(globs.takes_in(pattern, keys.uri(failed[0])) for pattern in patterns)


def _refs(key: bytes, latest: tuple[float, bool]) -> Iterator[ImageRef]:
    if latest[1]:
        counters.inc(counters.IMAGES_LISTED)
        yield ImageRef(key)
