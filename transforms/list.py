"""Listing: patterns, or files that name images, → `ImageRef`s, each key once.

What is listed is an image, or for the formats in SHARD_FORMATS a file that holds many.
"""

import csv
import dataclasses
import posixpath
import time
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from transforms import counters
from transforms.concurrent import in_flight
from transforms.concurrent.do_in_flight import DoInFlight
from transforms.formats import SHARD_FORMATS
from transforms.records import FAILURES, SECONDS, Failure, ImageRef, StageSeconds, key, uri
from transforms.storage import files, gcs, gcs_listing, versioned

STAGE = "list"

# A CSV file's header names its column of URIs one of these; without a header it is the first column.
_URI_COLUMNS = ("uri", "key", "path")


def uris_in(lines: Iterable[str], list_uri: str) -> Iterator[str]:
    """Yields the URIs that a list names, relative ones made relative to the list's own directory.

    A `.csv` has them in its column `uri`, `key` or `path`, or without such a header in its first column. Anything else
    is one URI a line. Empty lines and lines that begin with # are passed over; "" is yielded for a row that has other
    columns and no URI.
    """
    is_csv = list_uri.lower().endswith(".csv")
    rows: Iterable[list[str]] = csv.reader(lines) if is_csv else ([line] for line in lines)
    column = None if is_csv else 0
    for cells in rows:
        row = [cell.strip() for cell in cells]
        if not any(row) or row[0].startswith("#"):
            continue
        if column is None:
            header = [cell.lower() for cell in row]
            named = next((header.index(name) for name in _URI_COLUMNS if name in header), None)
            column = named or 0
            if named is not None:
                continue
        found = row[column] if column < len(row) else ""
        relative = found and "://" not in found and not found.startswith("/")
        yield posixpath.join(posixpath.dirname(list_uri), found) if relative else found


@dataclasses.dataclass(eq=False)
class ListImages(beam.PTransform):
    """Pipeline → ImageRef, and `Failure`s and `StageSeconds` under their tags.

    A pattern that cannot be listed fails the job; a list that cannot be read, or an image that it names and that cannot
    be found, is a failure.

    Attributes:
      patterns: globs, local or of a filesystem that Beam knows.
      input_format: `images`, one of SHARD_FORMATS, or `list`, where the patterns match files that name images.
      billing_project: who pays for requests to buckets whose owner does not.
      read_concurrency: how many images of lists a worker process asks for at once.
    """

    patterns: tuple[str, ...]
    input_format: str
    billing_project: str | None = None
    read_concurrency: int = in_flight.CONCURRENCY_DEFAULT

    def expand(self, root: Any) -> dict[str, beam.PCollection]:
        ranges = (
            root
            | "Patterns" >> beam.Create(self.patterns)
            | "Divide" >> beam.ParDo(_Divide(self.billing_project)).with_outputs(SECONDS, main="ranges")
        )
        matched = (
            ranges.ranges
            | "ToAllWorkers" >> beam.Reshuffle()
            | "Match" >> beam.ParDo(_Match(self.billing_project)).with_outputs(SECONDS, main="refs")
        )
        refs, failures, seconds = matched.refs, [], [ranges[SECONDS], matched[SECONDS]]
        if self.input_format == "list":
            read = refs | "ReadLists" >> beam.ParDo(_ReadList(self.billing_project)).with_outputs(
                FAILURES, SECONDS, main="refs"
            )
            refs = read.refs
            failures.append(read[FAILURES])
            seconds.append(read[SECONDS])
        # Grouping also lets a runner hand the reading of what one range holds to all of its workers.
        refs = (
            refs
            | "ByKey" >> beam.Map(_by_key).with_output_types(tuple[bytes, ImageRef])
            | "GroupByKey" >> beam.GroupByKey()
            | "First" >> beam.Map(_first).with_output_types(ImageRef)
        )
        if self.input_format not in SHARD_FORMATS:
            refs |= "Count" >> beam.Map(_counted).with_output_types(ImageRef)
        if self.input_format == "list":
            described = refs | "Describe" >> DescribeImages(self.billing_project, self.read_concurrency)
            refs = described.refs
            failures.append(described[FAILURES])
            seconds.append(described[SECONDS])
        if not failures:
            # Not a Flatten of nothing: Beam's fuser for Flink drops what is flattened with one.
            failures.append(root | "NoFailures" >> beam.Create([]).with_output_types(Failure))
        return {
            "refs": refs,
            FAILURES: failures | "Failures" >> beam.Flatten().with_output_types(Failure),
            SECONDS: seconds | "Seconds" >> beam.Flatten().with_output_types(StageSeconds),
        }


@dataclasses.dataclass(eq=False)
class DescribeImages(beam.PTransform):
    """ImageRef → ImageRef with version, size and checksum, and `Failure`s and `StageSeconds` under their tags.

    A ref that has a version goes through as it is; for another the filesystem is asked, by one request. What cannot be
    found or seen is a retryable failure.

    Attributes:
      billing_project: who pays for requests to buckets whose owner does not.
      read_concurrency: how many requests a worker process has in flight.
      may_still_come: whether what is not there is worth another try.
    """

    billing_project: str | None = None
    read_concurrency: int = in_flight.CONCURRENCY_DEFAULT
    may_still_come: bool = True

    def __post_init__(self) -> None:
        in_flight.check_concurrency(self.read_concurrency)

    def expand(self, refs: beam.PCollection[ImageRef]) -> beam.pvalue.DoOutputsTuple:
        describe = beam.ParDo(_Describe(self.read_concurrency, self.billing_project, self.may_still_come))
        return refs | "Describe" >> describe.with_outputs(FAILURES, SECONDS, main="refs")


class _Divide(beam.DoFn):
    def __init__(self, billing_project: str | None):
        self._billing_project = billing_project

    def process(self, pattern: str) -> Iterable[tuple[str, str, str]]:
        start = time.perf_counter()
        # Only Cloud Storage can list from a name to a name.
        ranges = gcs_listing.ranges(pattern, self._billing_project) if gcs.holds(pattern) else [(pattern, "", "")]
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds(STAGE, time.perf_counter() - start))
        yield from map(tuple, ranges)


class _Match(beam.DoFn):
    def __init__(self, billing_project: str | None):
        self._billing_project = billing_project

    def process(self, within: tuple[str, str, str]) -> Iterable[ImageRef]:
        found, seconds = self._refs(gcs_listing.Range(*within)), 0.0
        while True:
            start = time.perf_counter()
            ref = next(found, None)
            seconds += time.perf_counter() - start
            if ref is None:
                break
            yield ref
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds(STAGE, seconds))

    def _refs(self, within: gcs_listing.Range) -> Iterator[ImageRef]:
        if gcs.holds(within.pattern):
            for path, stored in gcs_listing.match_range(within, self._billing_project):
                yield ImageRef(key(path), stored.generation, stored.size, stored.crc32c)
        else:
            for metadata in files.match(within.pattern):
                yield ImageRef(key(metadata.path), files.version(metadata), metadata.size_in_bytes)


class _ReadList(beam.DoFn):
    def __init__(self, billing_project: str | None):
        self._billing_project = billing_project

    def process(self, ref: ImageRef) -> Iterable[ImageRef]:
        start = time.perf_counter()
        try:
            with versioned.opened(ref, self._billing_project) as file:
                lines = (line.decode("utf-8", "surrogateescape") for line in file)
                for number, named in enumerate(uris_in(lines, uri(ref.key))):
                    if named:
                        yield ImageRef(key(named), "", -1)
                    else:
                        yield self._failed(ref.key + b"#%d" % number, ValueError("expected a URI in this row"))
        except Exception as error:  # noqa: BLE001 - each storage client has errors of its own, all of them this list's
            yield self._failed(ref.key, error)
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds(STAGE, time.perf_counter() - start))

    def _failed(self, key: bytes, error: Exception) -> beam.pvalue.TaggedOutput:
        counters.inc(counters.IMAGES_LISTED)
        retryable = not isinstance(error, (ValueError, csv.Error))
        return beam.pvalue.TaggedOutput(FAILURES, Failure.of(key, STAGE, error, retryable))


class _Describe(DoInFlight):
    def __init__(self, read_concurrency: int, billing_project: str | None, may_still_come: bool):
        super().__init__(STAGE, read_concurrency)
        self._billing_project = billing_project
        self._final = (ValueError,) if may_still_come else (ValueError, FileNotFoundError)

    def call(self, ref: ImageRef) -> ImageRef | Failure:
        try:
            return versioned.described(ref, self._billing_project)
        except Exception as error:  # noqa: BLE001 - each storage client has errors of its own, all of them this object's
            return Failure.of(ref.key, STAGE, error, retryable=not isinstance(error, self._final))

    def size(self, ref: ImageRef) -> int:
        return 0

    def outputs(self, described: ImageRef | Failure) -> Iterator[Any]:
        yield beam.pvalue.TaggedOutput(FAILURES, described) if isinstance(described, Failure) else described


def _by_key(ref: ImageRef) -> tuple[bytes, ImageRef]:
    return ref.key, ref


def _first(group: tuple[bytes, Iterable[ImageRef]]) -> ImageRef:
    return next(iter(group[1]))


def _counted(ref: ImageRef) -> ImageRef:
    counters.inc(counters.IMAGES_LISTED)
    return ref
