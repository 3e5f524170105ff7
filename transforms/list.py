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

from transforms import counters, storage
from transforms.formats import SHARD_FORMATS
from transforms.records import FAILURES, SECONDS, Failure, ImageRef, StageSeconds, key, uri

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
    """Pipeline → ImageRef, and `Failure`s (a list that cannot be read) and `StageSeconds` under their tags.

    Attributes:
      patterns: globs, local or of a filesystem that Beam knows.
      input_format: `images`, one of SHARD_FORMATS, or `list`, where the patterns match files that name images.
    """

    patterns: tuple[str, ...]
    input_format: str

    def expand(self, root: Any) -> dict[str, beam.PCollection]:
        matched = (
            root
            | "Patterns" >> beam.Create(self.patterns)
            | "Match" >> beam.ParDo(_Match()).with_outputs(FAILURES, SECONDS, main="refs")
        )
        outputs = {tag: matched[tag] for tag in ("refs", FAILURES, SECONDS)}
        if self.input_format == "list":
            read = matched.refs | "ReadLists" >> beam.ParDo(_ReadList()).with_outputs(FAILURES, SECONDS, main="refs")
            outputs["refs"] = read.refs
            outputs[FAILURES] = read[FAILURES]
            outputs[SECONDS] = (matched[SECONDS], read[SECONDS]) | "Seconds" >> beam.Flatten()
        # Grouping also lets a runner hand the reading of what one pattern matched to all of its workers.
        outputs["refs"] = (
            outputs["refs"]
            | "ByKey" >> beam.Map(_by_key).with_output_types(tuple[bytes, ImageRef])
            | "GroupByKey" >> beam.GroupByKey()
            | "First" >> beam.Map(_first).with_output_types(ImageRef)
        )
        if self.input_format not in SHARD_FORMATS:
            outputs["refs"] |= "Count" >> beam.Map(_counted).with_output_types(ImageRef)
        return outputs


class _Match(beam.DoFn):
    def process(self, pattern: str) -> Iterable[ImageRef]:
        start = time.perf_counter()
        found = storage.match(pattern)
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds(STAGE, time.perf_counter() - start))
        for metadata in found:
            yield ImageRef(key(metadata.path), storage.version(metadata), metadata.size_in_bytes)


class _ReadList(beam.DoFn):
    def process(self, ref: ImageRef) -> Iterable[ImageRef]:
        start = time.perf_counter()
        try:
            with storage.open_stored(uri(ref.key)) as file:
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


def _by_key(ref: ImageRef) -> tuple[bytes, ImageRef]:
    return ref.key, ref


def _first(group: tuple[bytes, Iterable[ImageRef]]) -> ImageRef:
    return next(iter(group[1]))


def _counted(ref: ImageRef) -> ImageRef:
    counters.inc(counters.IMAGES_LISTED)
    return ref
