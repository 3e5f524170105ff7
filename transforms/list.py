"""Listing: patterns, or files that name images, → `ImageRef`s, each key once.

In shard formats a ref names a file that holds many images; otherwise it names one image.
"""

import csv
import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam

from transforms.concurrent import in_flight
from transforms.concurrent.do_in_flight import DoInFlight
from transforms.elements import counters, keys
from transforms.elements.formats import SHARD_FORMATS, check_input_format
from transforms.elements.packs import JoinByKey
from transforms.elements.record_coders import of_bytes, to_bytes
from transforms.elements.records import Failure, ImageRef, LeftOut, StageSeconds
from transforms.elements.stage import FAILURES, LEFT_OUT, SECONDS, Stage, StageOutput, with_stage_outputs
from transforms.lists import uri_lists
from transforms.storage import listing, locations, versioned
from transforms.storage.choice import Choice
from transforms.storage.context import DEFAULT_STORAGE, Storage

STAGE = "list"


@dataclasses.dataclass(eq=False)
class ListImages(Stage):
    """Pipeline → StageOutput of ImageRef.

    A pattern that cannot be listed fails the job. There is a failure for a list that cannot be read, for an image that
    a list names but that does not exist, and for a match of a local pattern that is no regular file. If a list in a
    bucket names a local file, that is a failure with the error `LocalPathInRemoteList`.

    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     listed = pipeline | ListImages(("pipeline/samples/images/*",))
    ...     _ = listed.main | beam.combiners.Count.Globally() | beam.Map(print)
    13

    Attributes:
      patterns: globs, see `globs`, local or of a filesystem that Beam knows.
      input_format: `images`, one of SHARD_FORMATS, or `list`, whose patterns match files that name images.
      storage: how buckets are reached.
      read_concurrency: how many requests for the images of lists a worker process has in flight.
      in_packs: see JoinByKey.
      include_hidden: whether hidden files are listed like others.
      uri_column: the column of URIs in lists; None for one of `uri_lists.URI_COLUMNS`.
      describe_urls: see DescribeImages.

    Raises:
      ValueError: if an attribute is invalid.
    """

    patterns: tuple[str, ...]
    input_format: str = "images"
    storage: Storage = DEFAULT_STORAGE
    read_concurrency: int = in_flight.CONCURRENCY_DEFAULT
    in_packs: bool = False
    include_hidden: bool = False
    uri_column: str | None = None
    describe_urls: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.patterns, str) or not self.patterns:
            raise ValueError(f"patterns={self.patterns!r}: expected at least one pattern in a tuple")
        check_input_format(self.input_format)
        in_flight.check_concurrency(self.read_concurrency)

    def expand(self, root: Any) -> StageOutput[ImageRef]:
        patterns = root | "Patterns" >> beam.Create(list(enumerate(self.patterns)))
        divide = with_stage_outputs(_Divide(self.storage), tuple[int, str, str])
        divided = StageOutput.of(patterns | "Divide" >> divide)
        match = _Match(self.patterns, self.include_hidden, self.input_format, self.storage)
        matched = StageOutput.of(
            divided.main
            | "ToAllWorkers" >> beam.Reshuffle()
            | "Match" >> with_stage_outputs(match, ImageRef, counts_left_out=True),
            counts_left_out=True,
        )
        steps, is_list = [divided, matched], self.input_format == "list"
        if is_list:
            read = with_stage_outputs(_ReadList(self.storage, self.uri_column), ImageRef)
            steps.append(StageOutput.of(matched.main | "ReadLists" >> read))
        # Grouping also lets a runner spread the images of one range over all of its workers.
        by_key = {"refs": steps[-1].main | "ByKey" >> beam.Map(_by_key).with_output_types(tuple[bytes, bytes])}
        first = with_stage_outputs(_First(are_described=not is_list), ImageRef)
        steps.append(StageOutput.of(by_key | "SameKey" >> JoinByKey(self.in_packs) | "First" >> first))
        refs = steps[-1].main
        if self.input_format not in SHARD_FORMATS:
            refs |= "Count" >> beam.Map(_counted).with_output_types(ImageRef)
        if is_list:
            describe = DescribeImages(self.storage, self.read_concurrency, describe_urls=self.describe_urls)
            steps.append(refs | "Describe" >> describe)
            refs = steps[-1].main
        return StageOutput(
            refs,
            [step.failures for step in steps] | "Failures" >> beam.Flatten().with_output_types(Failure),
            [step.seconds for step in steps] | "Seconds" >> beam.Flatten().with_output_types(StageSeconds),
            matched.left_out,
        )


@dataclasses.dataclass(eq=False)
class DescribeImages(Stage):
    """ImageRef → StageOutput of ImageRef with version, size and checksum.

    A ref that has a version passes unchanged. For any other, one request asks the filesystem. An image that does not
    exist, or may not be seen, is a retryable failure.

    >>> from pathlib import Path
    >>> cat = Path("pipeline/samples/images/cat.jpg")
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     refs = pipeline | beam.Create([ImageRef(keys.of_uri(str(cat)))])
    ...     _ = (refs | DescribeImages()).main | beam.Map(lambda ref: print(ref.size == cat.stat().st_size))
    True

    Attributes:
      storage: how buckets are reached.
      read_concurrency: how many requests a worker process has in flight.
      may_still_come: whether a missing image is a retryable failure.
      describe_urls: whether one request asks for the version of each URL too. Otherwise URLs pass unchanged, and
        ReadImages finds out. Only SkipKnown needs the version earlier.

    Raises:
      ValueError: if `read_concurrency` is out of range.
    """

    storage: Storage = DEFAULT_STORAGE
    read_concurrency: int = in_flight.CONCURRENCY_DEFAULT
    may_still_come: bool = True
    describe_urls: bool = True

    def __post_init__(self) -> None:
        in_flight.check_concurrency(self.read_concurrency)

    def expand(self, refs: beam.PCollection[ImageRef]) -> StageOutput[ImageRef]:
        describe = _Describe(self.storage, self.read_concurrency, self.may_still_come, self.describe_urls)
        return StageOutput.of(refs | "Describe" >> with_stage_outputs(describe, ImageRef))


class _Divide(beam.DoFn):
    def __init__(self, storage: Storage):
        self._storage = storage

    def process(self, numbered: tuple[int, str]) -> Iterable[tuple[int, str, str]]:
        number, pattern = numbered
        start = time.perf_counter()
        ranges = listing.ranges(self._storage, pattern)
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds.of(STAGE, time.perf_counter() - start))
        for first, end in ranges:
            yield number, first, end


class _Match(beam.DoFn):
    """(number of a pattern, first name, the name before which to stop) → ImageRef of each file that is taken."""

    def __init__(self, patterns: tuple[str, ...], include_hidden: bool, input_format: str, storage: Storage):
        self._patterns = patterns
        self._include_hidden = include_hidden
        self._input_format = input_format
        self._storage = storage

    def process(self, name_range: tuple[int, str, str]) -> Iterable[ImageRef]:
        number, first, end = name_range
        choice = Choice(self._patterns, number, include_hidden=self._include_hidden, input_format=self._input_format)
        refs, seconds = listing.refs(self._storage, choice, (first, end)), 0.0
        while True:
            start = time.perf_counter()
            ref = next(refs, None)
            seconds += time.perf_counter() - start
            if ref is None:
                break
            yield ref
        for (why, name), left_out in choice.left_out.items():
            yield beam.pvalue.TaggedOutput(LEFT_OUT, LeftOut(why, name, left_out))
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds.of(STAGE, seconds))


class _ReadList(beam.DoFn):
    def __init__(self, storage: Storage, uri_column: str | None):
        self._storage = storage
        self._uri_column = uri_column

    def process(self, ref: ImageRef) -> Iterable[ImageRef]:
        start = time.perf_counter()
        try:
            with versioned.opened(self._storage, ref) as file:
                images = uri_lists.keys_in(file, keys.uri(ref.key), self._uri_column)
                for number, key in enumerate(images):
                    if isinstance(key, ValueError):
                        yield _failed(ref.key + b"#%d" % number, key)
                    else:
                        yield ImageRef(key)
        except (OSError, ValueError, MemoryError, csv.Error) as error:
            yield _failed(ref.key, error)
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds.of(STAGE, time.perf_counter() - start))


class _Describe(DoInFlight):
    def __init__(self, storage: Storage, read_concurrency: int, may_still_come: bool, describe_urls: bool):
        super().__init__(STAGE, read_concurrency)
        self._storage = storage
        self._may_still_come = may_still_come
        self._describe_urls = describe_urls

    def call(self, ref: ImageRef) -> ImageRef | Failure:
        if not self._describe_urls and locations.is_http(keys.uri(ref.key)):
            return ref
        try:
            return versioned.described(self._storage, ref)
        except (OSError, ValueError) as error:
            is_final = isinstance(error, FileNotFoundError) and not self._may_still_come
            return Failure.of(ref.key, STAGE, error, is_final=is_final)

    def size(self, ref: ImageRef) -> int:
        return 0

    def group(self, ref: ImageRef) -> str:
        return locations.host(keys.uri(ref.key)) if self._describe_urls else ""

    def outputs(self, results: Sequence[ImageRef | Failure]) -> Iterator[Any]:
        (described,) = results
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
                ref = versioned.described(DEFAULT_STORAGE, ref)
            except OSError as error:
                yield _failed(key, error)
                return
        yield ref


def _failed(key: bytes, error: Exception) -> beam.pvalue.TaggedOutput:
    counters.inc(counters.IMAGES_LISTED)
    return beam.pvalue.TaggedOutput(FAILURES, Failure.of(key, STAGE, error))


def _counted(ref: ImageRef) -> ImageRef:
    counters.inc(counters.IMAGES_LISTED)
    return ref
