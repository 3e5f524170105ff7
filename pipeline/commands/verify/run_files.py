"""The files of one run: which ones it has, and the records in them."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.commands.verify import file_names, parquet_file, record_file
from pipeline.commands.verify.output_files import OutputFiles
from pipeline.commands.verify.record_file import VECTOR, Columns, Expected, Record
from transforms.elements.one_line import one_line


@dataclasses.dataclass(frozen=True, eq=False)
class RunFiles:
    """The files of one run.

    Attributes:
      output: all files of the output.
      run_id: names the run.
      columns: as `schema_file.columns` returns them.
      report: the fields of the run's report; None if it has not been read, or cannot be used.
    """

    output: OutputFiles
    run_id: str
    columns: Columns
    report: Mapping[str, Any] | None = None

    @functools.cached_property
    def vectors(self) -> dict[str, list[str]]:
        """Suffix → the names of the complete files of vectors in that format."""
        names, folder = self.output.below(f"embeddings/{self.run_id}"), f"embeddings/{self.run_id}"
        formats = file_names.TFRECORD, file_names.PARQUET
        return {suffix: file_names.complete(names, folder, suffix) for suffix in formats}

    @functools.cached_property
    def failures(self) -> list[str]:
        """The names of the complete files of failures."""
        folder = f"failures/{self.run_id}"
        return file_names.complete(self.output.below(folder), folder, file_names.FAILURES)

    @property
    def formats(self) -> list[str]:
        """The suffixes of the files of vectors that the run has, or that its report says it has."""
        reported = self.report.get("output_formats", ["tfrecord"]) if self.report else []
        formats = [suffix for suffix, names in self.vectors.items() if names or suffix[1:] in reported]
        return formats or [file_names.TFRECORD]

    @property
    def is_finished(self) -> bool:
        """Whether the run has a report that can be used, and no claim."""
        return self.report is not None and not self.output.has(file_names.claim_of(self.run_id))

    @property
    def model_digest(self) -> bytes:
        """The digest of the run's model; b"" if the report does not state it."""
        return self.report["model"]["digest"].encode() if self.report else b""

    def records(self) -> Iterator[Record]:
        """Yields the good records."""
        for names in self.vectors.values():
            for name in names:
                for _, record in self.read(name):
                    if isinstance(record, Record):
                        yield record

    def read(self, name: str) -> Iterator[tuple[str, Record | str]]:
        """Yields for each record of a file of vectors its place in words, and its content or what is wrong with it."""
        is_parquet = name.endswith(file_names.PARQUET)
        place, expected = "in row" if is_parquet else "at byte", self._expected()
        try:
            with self.output.open(name) as file:
                if is_parquet:
                    vector_type = self.report.get("vector_type", "float32") if self.report else "float32"
                    for row in parquet_file.rows(file, expected, vector_type):
                        record = row.problem or _record(record_file.checked, row.features, expected)
                        yield f"{place} {row.number:,}", record
                else:
                    for frame in record_file.frames(file):
                        record = frame.problem or _record(record_file.parse, frame.record, expected)
                        yield f"{place} {frame.offset:,}", record
        except (OSError, ValueError) as error:
            yield f"{place} 0", f"the file cannot be read: {one_line(error)}"

    def _expected(self) -> Expected:
        if self.report is None:
            return Expected(self.columns)
        kind, _ = self.columns[VECTOR]
        model = self.report["model"]
        name = model["name"].encode("utf-8", "surrogateescape")
        return Expected({**self.columns, VECTOR: (kind, model["dimension"])}, name, model["digest"].encode())


def _record(parse: Callable[[Any, Expected], Record], stored: Any, expected: Expected) -> Record | str:
    """Returns the content of a stored record, or what is wrong with it."""
    try:
        return parse(stored, expected)
    except ValueError as error:
        return str(error)
