"""Listing: patterns, or files that name images, → `ImageRef`s, each key once.

In shard formats a ref names a file that holds many images; otherwise it names one image.
"""

import codecs
import csv
import dataclasses
import io
import posixpath
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

import apache_beam as beam
from apache_beam.io.filesystem import FileMetadata

from transforms import counters, keys, storage
from transforms.concurrent import in_flight
from transforms.concurrent.do_in_flight import DoInFlight
from transforms.formats import SHARD_FORMATS, check_input_format
from transforms.packs import JoinByKey
from transforms.record_coders import of_bytes, to_bytes
from transforms.records import Failure, ImageRef, StageSeconds
from transforms.stage import FAILURES, SECONDS, Stage, StageOutput, with_stage_outputs
from transforms.storage import files, local_listing, locations, versioned

STAGE = "list"

# Names of the column of URIs in the header of a CSV file. Without a header, the first column has the URIs.
_URI_COLUMNS = ("uri", "key", "path")

_SCHEME = re.compile(r"([a-zA-Z][-a-zA-Z0-9+.]*)://")


# The most characters of a row of a list. Names of objects have 1024 bytes; a row may have a caption beside.
_MAX_ROW_CHARACTERS = 2**20


class LocalPathInRemoteList(ValueError):
    """A row of a list in a bucket that names a file of the worker, which whoever fills the bucket must not read."""


def uris_in(lines: Iterable[str], list_uri: str) -> Iterator[str]:
    """Yields the URIs that a list names. Relative ones are resolved against the directory of the list.

    A `.csv` has them in its column `uri`, `key` or `path`, or in its first column if it has no such header. Any other
    file has one URI per line. Empty lines and lines that begin with # are ignored. A row that has other columns but
    no URI yields "".

    >>> list(uris_in(["# holidays", "beach.jpg", "gs://bucket/peak.jpg"], "photos/list.txt"))
    ['photos/beach.jpg', 'gs://bucket/peak.jpg']

    Raises:
      ValueError: if a row has more than a million characters, as a file without line ends has.
      csv.Error: if it is no CSV file.
    """
    is_csv = list_uri.lower().endswith(".csv")
    bounded = _BoundedRows(lines)
    rows: Iterable[list[str]] = csv.reader(bounded) if is_csv else ([line] for line in bounded)
    column = None if is_csv else 0
    for cells in rows:
        bounded.row_ends()
        row = [cell.strip() for cell in cells]
        if not any(row) or row[0].startswith("#"):
            continue
        if column is None:
            header = [cell.lower() for cell in row]
            uri_column = next((header.index(name) for name in _URI_COLUMNS if name in header), None)
            column = uri_column or 0
            if uri_column is not None:
                continue
        uri = row[column] if column < len(row) else ""
        is_relative = uri and locations.is_local(uri) and not uri.startswith("/")
        yield posixpath.join(posixpath.dirname(list_uri), uri) if is_relative else uri


class _BoundedRows:
    """The lines of a list. A row of several lines, which a quoted cell of a CSV file makes, is bounded as one line."""

    def __init__(self, lines: Iterable[str]):
        self._lines = iter(lines)
        self._characters = 0

    def __iter__(self) -> "_BoundedRows":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._characters += len(line)
        if self._characters > _MAX_ROW_CHARACTERS:
            raise ValueError(f"a row of more than {_MAX_ROW_CHARACTERS} characters: expected one URI per row")
        return line

    def row_ends(self) -> None:
        self._characters = 0


def lines_of(file: BinaryIO) -> Iterator[str]:
    """Yields the lines of a text file, in UTF-8 unless a byte order mark tells UTF-16, as spreadsheets write it.

    Bytes that are not UTF-8 become lone surrogates. No more of a line is read than a row may have, and one character.
    """
    reader = io.BufferedReader(cast(Any, file))
    is_utf16 = reader.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    errors = "strict" if is_utf16 else "surrogateescape"
    text = io.TextIOWrapper(reader, "utf-16" if is_utf16 else "utf-8-sig", errors, newline="\n")
    while line := text.readline(_MAX_ROW_CHARACTERS + 1):
        yield line


def may_name(uri: str, list_uri: str) -> bool:
    """Returns whether a list may name a URI: one in a bucket names objects alone."""
    scheme = _SCHEME.match(uri)
    return locations.is_local(list_uri) or bool(scheme and scheme[1].lower() != "file")


def _check_remote(uri: str, list_uri: str) -> None:
    if not may_name(uri, list_uri):
        raise LocalPathInRemoteList(
            f"{uri!r}: a list that is not local names objects, not files of the worker: expected gs://BUCKET/NAME, "
            "or a name relative to the list"
        )


@dataclasses.dataclass(eq=False)
class ListImages(Stage):
    """Pipeline → StageOutput of ImageRef.

    A pattern that cannot be listed fails the job. A list that cannot be read is a failure, and so is an image that a
    list names and that does not exist. So is whatever a local pattern matches that is no regular file. A list in a
    bucket that names a local file is a failure with the error `LocalPathInRemoteList`.

    >>> from pipeline.options import SAMPLES
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     listed = pipeline | ListImages((SAMPLES,))
    ...     _ = listed.main | beam.combiners.Count.Globally() | beam.Map(print)
    13

    Attributes:
      patterns: globs, local or of a filesystem that Beam knows; `**` crosses directories.
      input_format: `images`, one of SHARD_FORMATS, or `list`, whose patterns match files that name images.
      billing_project: the project that pays for requests to buckets with requester pays.
      read_concurrency: how many requests for the images of lists a worker process has in flight.
      in_packs: see JoinByKey.

    Raises:
      ValueError: if an attribute is invalid.
    """

    patterns: tuple[str, ...]
    input_format: str = "images"
    billing_project: str | None = None
    read_concurrency: int = in_flight.CONCURRENCY_DEFAULT
    in_packs: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.patterns, str) or not self.patterns:
            raise ValueError(f"patterns={self.patterns!r}: expected at least one pattern in a tuple")
        check_input_format(self.input_format)
        in_flight.check_concurrency(self.read_concurrency)

    def expand(self, root: Any) -> StageOutput[ImageRef]:
        ranges = (
            root
            | "Patterns" >> beam.Create(self.patterns)
            | "Divide"
            >> beam.ParDo(_Divide(self.billing_project))
            .with_output_types(tuple[str, str, str], **{SECONDS: StageSeconds})
            .with_outputs(SECONDS, main="ranges")
        )
        matched = StageOutput.of(
            ranges["ranges"]
            | "ToAllWorkers" >> beam.Reshuffle()
            | "Match" >> with_stage_outputs(_Match(self.billing_project), ImageRef)
        )
        refs, failures, seconds = matched.main, [matched.failures], [ranges[SECONDS], matched.seconds]
        if self.input_format == "list":
            in_lists = StageOutput.of(
                refs | "ReadLists" >> with_stage_outputs(_ReadList(self.billing_project), ImageRef)
            )
            refs = in_lists.main
            failures.append(in_lists.failures)
            seconds.append(in_lists.seconds)
        # Grouping also lets a runner spread the images of one range over all of its workers.
        by_key = {"refs": refs | "ByKey" >> beam.Map(_by_key).with_output_types(tuple[bytes, bytes])}
        first = StageOutput.of(
            by_key
            | "SameKey" >> JoinByKey(self.in_packs)
            | "First" >> with_stage_outputs(_First(are_described=self.input_format != "list"), ImageRef)
        )
        refs = first.main
        failures.append(first.failures)
        if self.input_format not in SHARD_FORMATS:
            refs |= "Count" >> beam.Map(_counted).with_output_types(ImageRef)
        if self.input_format == "list":
            described = refs | "Describe" >> DescribeImages(self.billing_project, self.read_concurrency)
            refs = described.main
            failures.append(described.failures)
            seconds.append(described.seconds)
        return StageOutput(
            refs,
            failures | "Failures" >> beam.Flatten().with_output_types(Failure),
            seconds | "Seconds" >> beam.Flatten().with_output_types(StageSeconds),
        )


@dataclasses.dataclass(eq=False)
class DescribeImages(Stage):
    """ImageRef → StageOutput of ImageRef with version, size and checksum.

    A ref that has a version passes unchanged. For any other, the filesystem is asked by one request. An image that does
    not exist, or may not be seen, is a retryable failure.

    >>> from pathlib import Path
    >>> from pipeline.options import SAMPLES
    >>> cat = Path(SAMPLES).with_name("cat.jpg")
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     refs = pipeline | beam.Create([ImageRef(keys.of_uri(str(cat)))])
    ...     _ = (refs | DescribeImages()).main | beam.Map(lambda ref: print(ref.size == cat.stat().st_size))
    True

    Attributes:
      billing_project: the project that pays for requests to buckets with requester pays.
      read_concurrency: how many requests a worker process has in flight.
      may_still_come: whether a missing image is a retryable failure.

    Raises:
      ValueError: if `read_concurrency` is out of range.
    """

    billing_project: str | None = None
    read_concurrency: int = in_flight.CONCURRENCY_DEFAULT
    may_still_come: bool = True

    def __post_init__(self) -> None:
        in_flight.check_concurrency(self.read_concurrency)

    def expand(self, refs: beam.PCollection[ImageRef]) -> StageOutput[ImageRef]:
        describe = _Describe(self.read_concurrency, self.billing_project, self.may_still_come)
        return StageOutput.of(refs | "Describe" >> with_stage_outputs(describe, ImageRef))


class _Divide(beam.DoFn):
    def __init__(self, billing_project: str | None):
        self._billing_project = billing_project

    def process(self, pattern: str) -> Iterable[tuple[str, str, str]]:
        start = time.perf_counter()
        # Only Cloud Storage can list a range of names.
        if locations.is_gcs(pattern):
            ranges = [(*each,) for each in storage.gcs_listing.ranges(pattern, self._billing_project)]
        else:
            ranges = [(pattern, "", "")]
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds.of(STAGE, time.perf_counter() - start))
        yield from ranges


class _Match(beam.DoFn):
    def __init__(self, billing_project: str | None):
        self._billing_project = billing_project

    def process(self, name_range: tuple[str, str, str]) -> Iterable[ImageRef]:
        refs, seconds = self._refs(*name_range), 0.0
        while True:
            start = time.perf_counter()
            ref = next(refs, None)
            seconds += time.perf_counter() - start
            if ref is None:
                break
            yield ref
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds.of(STAGE, seconds))

    def _refs(self, pattern: str, start: str, end: str) -> Iterator[ImageRef]:
        if locations.is_gcs(pattern):
            name_range = storage.gcs_listing.Range(pattern, start, end)
            for path, stored in storage.gcs_listing.match_range(name_range, self._billing_project):
                yield ImageRef(keys.of_uri(path), stored.generation, stored.size, stored.crc32c)
        else:
            for path, metadata in self._files(pattern):
                if metadata:
                    yield ImageRef(keys.of_uri(path), files.version(metadata), metadata.size_in_bytes)
                else:
                    yield ImageRef(keys.of_uri(path))

    def _files(self, pattern: str) -> Iterator[tuple[str, FileMetadata | None]]:
        if locations.is_local(pattern):
            return local_listing.match(pattern)
        return ((metadata.path, metadata) for metadata in files.match(pattern))


class _ReadList(beam.DoFn):
    def __init__(self, billing_project: str | None):
        self._billing_project = billing_project

    def process(self, ref: ImageRef) -> Iterable[ImageRef]:
        start = time.perf_counter()
        try:
            with versioned.opened(ref, self._billing_project) as file:
                list_uri = keys.uri(ref.key)
                for number, uri in enumerate(uris_in(lines_of(file), list_uri)):
                    try:
                        if not uri:
                            raise ValueError("expected a URI in this row")
                        _check_remote(uri, list_uri)
                        image = ImageRef(keys.of_uri(uri))
                    except ValueError as error:
                        yield _failed(ref.key + b"#%d" % number, error)
                    else:
                        yield image
        except (OSError, ValueError, MemoryError, csv.Error) as error:
            yield _failed(ref.key, error)
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds.of(STAGE, time.perf_counter() - start))


class _Describe(DoInFlight):
    def __init__(self, read_concurrency: int, billing_project: str | None, may_still_come: bool):
        super().__init__(STAGE, read_concurrency)
        self._billing_project = billing_project
        self._final = (ValueError,) if may_still_come else (ValueError, FileNotFoundError)

    def call(self, ref: ImageRef) -> ImageRef | Failure:
        try:
            return versioned.described(ref, self._billing_project)
        except (OSError, ValueError) as error:
            return Failure.of(ref.key, STAGE, error, retryable=not isinstance(error, self._final))

    def size(self, ref: ImageRef) -> int:
        return 0

    def outputs(self, described: ImageRef | Failure) -> Iterator[Any]:
        yield beam.pvalue.TaggedOutput(FAILURES, described) if isinstance(described, Failure) else described


def _by_key(ref: ImageRef) -> tuple[bytes, bytes]:
    return ref.key, to_bytes(ref)


class _First(beam.DoFn):
    """Outputs the first ref of each key. If it should have a version and has none, it is a Failure that says why."""

    def __init__(self, are_described: bool):
        self._are_described = are_described

    def process(self, group: tuple[bytes, dict[str, Iterable[bytes]]]) -> Iterable[ImageRef]:
        key, same_key = group
        ref = of_bytes(ImageRef, next(iter(same_key["refs"])))
        if self._are_described and not ref.version:
            try:
                ref = versioned.described(ref, None)
            except OSError as error:
                yield _failed(key, error)
                return
        yield ref


def _failed(key: bytes, error: Exception) -> beam.pvalue.TaggedOutput:
    counters.inc(counters.IMAGES_LISTED)
    retryable = not isinstance(error, (ValueError, csv.Error))
    return beam.pvalue.TaggedOutput(FAILURES, Failure.of(key, STAGE, error, retryable))


def _counted(ref: ImageRef) -> ImageRef:
    counters.inc(counters.IMAGES_LISTED)
    return ref
