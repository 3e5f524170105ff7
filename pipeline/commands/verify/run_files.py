"""The files of one run: their names, their records and their failures, against its report."""

import functools
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.commands.verify import parquet_file, record_file, report_file, schema_file
from pipeline.commands.verify.findings import Check, Findings, counted
from pipeline.commands.verify.identities import ContentVectors, Identities, identity
from pipeline.commands.verify.record_file import VECTOR, Expected, Record
from pipeline.commands.verify.stored import SCHEMA, Stored
from transforms.elements.keys import name as key_name
from transforms.elements.one_line import one_line

# A message has at most 500 characters, and a name some thousands.
_MAX_LINE_BYTES = 2**20
_TFRECORD, _PARQUET = ".tfrecord", ".parquet"
_SHARD_NAME = re.compile(r"part-([0-9]{5,9})-of-([0-9]{5,9})")
_FAILURE_TYPES = {"key": str, "stage": str, "error": str, "message": str, "retryable": bool, "run_id": str}


class RunFiles:
    """The files of one run.

    Attributes:
      run_id: names the run.
      report: its fields; None if it cannot be used.
      keys, failed_keys: identities of the keys that have a record, and of those that failed.
    """

    def __init__(self, stored: Stored, run_id: str, columns: Mapping[str, tuple[str, int | None]]):
        """Takes the files of a run, which are not read yet; `columns` are as `schema_file.columns` returns them."""
        self.run_id = run_id
        self.report: dict[str, Any] | None = None
        self.keys, self.failed_keys = Identities(), Identities()
        self._stored = stored
        self._columns = columns
        self._shards = {suffix: _parts(stored, f"embeddings/{run_id}", suffix) for suffix in (_TFRECORD, _PARQUET)}
        self._failures = _parts(stored, f"failures/{run_id}", ".jsonl")

    @property
    def digest(self) -> bytes:
        """The digest of the run's model; b"" if the report does not tell."""
        return self.report["model"]["digest"].encode() if self.report else b""

    def check(self, contents: ContentVectors, each: Callable[[Record], None], findings: Findings) -> None:
        """Checks all of the run.

        Args:
          contents: gets the content and the vector of each record.
          each: is called with each good record.
          findings: gets the outcome.
        """
        with findings.check(f"run {self.run_id}: report") as check:
            self._check_report(check, findings)
        formats = self._formats()
        for suffix in formats:
            with findings.check(f"run {self.run_id}: records") as check:
                if suffix == formats[0]:
                    shards = self.report["shards"] if self.report else None
                    self._check_names("embeddings", list(self._shards.values()), shards, findings)
                own = self._check_records(suffix, contents, each, check, findings)
                self._name("a key has several records in one run", own.repeated(), self._recorded, findings)
                if suffix == formats[0]:
                    self.keys = own
                else:
                    alone = own.where(~own.also_in(self.keys)) | self.keys.where(~self.keys.also_in(own))
                    self._name("a key has a record in one format only", alone, self._recorded, findings)
        with findings.check(f"run {self.run_id}: failures") as check:
            self._check_names("failures", [self._failures], None, findings)
            self._check_failures(check, findings)
            self._name("a key has several failures in one run", self.failed_keys.repeated(), self._failed, findings)
            both = self.keys.where(self.keys.also_in(self.failed_keys))
            self._name("a key has a record and a failure in one run", both, self._recorded, findings)

    def records(self) -> Iterator[Record]:
        """Yields the good records, without any findings."""
        for names in self._shards.values():
            for name in names:
                for _, record in self._read(name):
                    if isinstance(record, Record):
                        yield record

    def failures(self) -> Iterator[dict[str, Any]]:
        """Yields the good failures, without any findings."""
        silent = Findings()
        for name in self._failures:
            for _, failure in self._lines(name, silent):
                yield failure

    def _formats(self) -> list[str]:
        """Returns the suffixes of the files of embeddings that the run has, or that its report says it has."""
        reported = self.report.get("output_formats", ["tfrecord"]) if self.report else []
        formats = [suffix for suffix, names in self._shards.items() if names or suffix[1:] in reported]
        return formats or [_TFRECORD]

    def _read(self, name: str) -> Iterator[tuple[str, Record | str]]:
        """Yields for each record of a file its place in words, and its content or what is wrong with it."""
        expected = self._expected()
        if name.endswith(_PARQUET):
            for row in self._rows(name, expected):
                yield f"in row {row.number:,}", _checked(row.problem, record_file.checked, row.features, expected)
        else:
            for frame in _frames(self._stored, name):
                yield f"at byte {frame.offset:,}", _checked(frame.problem, record_file.parse, frame.record, expected)

    def _rows(self, name: str, expected: Expected) -> Iterator[parquet_file.Row]:
        vector_type = self.report.get("vector_type", "float32") if self.report else "float32"
        try:
            with self._stored.open(name) as file:
                yield from parquet_file.rows(file, expected, vector_type)
        except (OSError, ValueError) as error:
            yield parquet_file.Row(0, {}, f"the file cannot be read: {one_line(error)}")

    def _expected(self) -> Expected:
        if self.report is None:
            return Expected(self._columns)
        kind, _ = self._columns[VECTOR]
        model = self.report["model"]
        name = model["name"].encode("utf-8", "surrogateescape")
        return Expected({**self._columns, VECTOR: (kind, model["dimension"])}, name, model["digest"].encode())

    def _check_report(self, check: Check, findings: Findings) -> None:
        name = report_of(self.run_id)
        if name not in self._stored.names:
            findings.problem("a run without a report: it is unfinished, or the report was deleted", name)
            return
        try:
            content = self._stored.read(name, report_file.MAX_BYTES)
        except (OSError, ValueError) as error:
            findings.problem("a file cannot be read", f"{name}: {one_line(error)}")
            return
        try:
            report = report_file.parse(content)
        except report_file.Invalid as error:
            findings.problem("a report is broken", f"{name}: {one_line(error)}")
            return
        for problem in (*report_file.damage(content, report), *report_file.contradictions(report, self.run_id)):
            findings.problem("a report is broken", f"{name}: {problem}")
        self.report = report
        listed, *outcomes = report_file.COUNTS
        counts = report["counts"]
        parts = " + ".join(f"{counts[outcome]:,} {outcome}" for outcome in outcomes)
        check.text = f"run {self.run_id}: report: its checksum, and {counted(counts[listed], 'image')} listed = {parts}"
        self._check_digests(report["files"], findings)

    def _check_digests(self, digests: Mapping[str, str], findings: Findings) -> None:
        """Compares the digests of the files that have no checksums of their own."""
        own: dict[str, Callable[[], str]] = {
            name: functools.partial(self._sha256, name) for name in (SCHEMA, *self._failures)
        }
        for name in (f"runs/{self.run_id}.html", f"runs/{self.run_id}.statistics"):
            if name in self._stored.names:
                own[name] = functools.partial(self._sha256, name)
        if self._shards[_PARQUET]:
            own[f"embeddings/{self.run_id}/part-*{_PARQUET}"] = self._sha256_of_parquet
        for name in sorted(own.keys() - digests.keys()):
            findings.problem("a file is not in the report", name)
        for name in sorted(digests.keys() - own.keys()):
            findings.problem("a file of the report is missing", name)
        for name in sorted(own.keys() & digests.keys()):
            try:
                sha256 = own[name]()
            except FileNotFoundError:
                findings.problem("a file of the report is missing", name)
            except OSError as error:
                findings.problem("a file cannot be read", f"{name}: {one_line(error)}")
            else:
                if sha256 != digests[name] and not (name == SCHEMA and self._before_shard() == digests[name]):
                    findings.problem("a file has changed since the run wrote it", name)

    def _before_shard(self) -> str:
        """Returns the SHA-256 of the schema as a run of an earlier version wrote it into this output."""
        return hashlib.sha256(schema_file.before_shard(self._stored.read(SCHEMA, schema_file.MAX_BYTES))).hexdigest()

    def _sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        with self._stored.open(name) as file:
            while block := file.read(2**20):
                digest.update(block)
        return digest.hexdigest()

    def _sha256_of_parquet(self) -> str:
        """Returns the SHA-256 that all Parquet files have in common: that of theirs, in the order of their names."""
        return hashlib.sha256("".join(map(self._sha256, self._shards[_PARQUET])).encode()).hexdigest()

    def _check_names(self, folder: str, by_format: Sequence[list[str]], shards: int | None, findings: Findings) -> None:
        """Compares the names of the files in the run's folder with the numbers in them, and with the report's."""
        names = [name for of_format in by_format for name in of_format]
        root, complete = f"{folder}/{self.run_id}/", set(names)
        is_finished = self.report is not None and claim_of(self.run_id) not in self._stored.names
        for name in self._stored.names:
            if name.startswith(root) and name not in complete:
                is_part = "/." in name
                if is_finished or not is_part:  # a run that is not finished, or is being replaced, may have parts
                    findings.problem("an unfinished file of a finished run" if is_part else "a stray file", name)
        for of_format in by_format:
            numbers = [_number(name) for name in of_format]
            totals = {total for _, total in numbers}
            for total in sorted(totals):
                present = sum(of == total and number < total for number, of in numbers)
                if present < total or len(totals) > 1:
                    item = f"{root}part-…-of-{total:05d}: {present:,} of {total:,}"
                    findings.problem("files of a run are missing", item)
        if shards is not None and shards != len(names):
            findings.problem(
                "the number of files differs from the report's", f"{root}: {len(names):,}, expected {shards:,}"
            )

    def _check_records(
        self,
        suffix: str,
        contents: ContentVectors,
        each: Callable[[Record], None],
        check: Check,
        findings: Findings,
    ) -> Identities:
        """Checks the records in the files of a suffix, and returns the identities of their keys."""
        keys = Identities()
        number = 0
        for name in self._shards[suffix]:
            for place, record in self._read(name):
                number += 1
                if isinstance(record, str):
                    findings.problem("a record is broken", f"{name} {place}: {record}")
                    continue
                keys.add(identity(record.key))
                contents.add(content_of(record), identity(record.vector.tobytes()))
                if not record.vector.any():
                    findings.note("a vector of zeros, which has no direction to compare", key_name(record.key))
                each(record)
        dimension = self.report["model"]["dimension"] if self.report else "any"
        check.text = (
            f"run {self.run_id}: {counted(number, 'record')} in "
            f"{counted(len(self._shards[suffix]), 'Parquet file' if suffix == _PARQUET else 'file')}: checksums, "
            f"{'columns' if suffix == _PARQUET else 'features'}, vectors of {dimension} finite components, one per key"
        )
        if self.report:
            counts = self.report["counts"]
            recorded = counts["embedded"] + counts["reused"] + counts["duplicate"]
            if number != recorded:
                findings.problem(
                    "the number of records differs from the report's",
                    f"embeddings/{self.run_id}/: {number:,}, expected {recorded:,}",
                )
        return keys

    def _check_failures(self, check: Check, findings: Findings) -> None:
        number = 0
        by_error: Counter[tuple[str, str]] = Counter()
        for name in self._failures:
            for _, failure in self._lines(name, findings):
                number += 1
                by_error[failure["stage"], failure["error"]] += 1
                self.failed_keys.add(identity(_key(failure)))
        check.text = (
            f"run {self.run_id}: {counted(number, 'failure')} in {counted(len(self._failures), 'file')}: "
            "fields, one per key"
        )
        if self.report:
            reported = {
                (stage, error): images
                for stage, errors in self.report["failures"].items()
                for error, images in errors.items()
            }
            for stage, error in sorted(reported.keys() | by_error.keys()):
                own, expected = by_error[stage, error], reported.get((stage, error), 0)
                if own != expected:
                    findings.problem(
                        "the number of failures differs from the report's",
                        f"failures/{self.run_id}/: {own:,} {error} of the stage {stage}, expected {expected:,}",
                    )

    def _lines(self, name: str, findings: Findings) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields the well-formed failures of a file with the numbers of their lines."""
        number = 0
        try:
            with self._stored.open(name) as file:
                while line := file.readline(_MAX_LINE_BYTES):
                    number += 1
                    try:
                        yield number, _failure(line, self.run_id)
                    except ValueError as error:
                        findings.problem("a failure is broken", f"{name} in line {number:,}: {error}")
        except (OSError, ValueError) as error:
            findings.problem("a file cannot be read", f"{name}: {one_line(error)}")

    def _name(self, kind: str, hashes: set[bytes], keys: Callable[[], Iterator[bytes]], findings: Findings) -> None:
        """Reports the keys with these identities, and reads the files once more for it."""
        for key in keys() if hashes else ():
            if (hashed := identity(key)) in hashes:
                hashes.remove(hashed)
                findings.problem(kind, f"run {self.run_id}: {key_name(key)}")

    def _recorded(self) -> Iterator[bytes]:
        return (record.key for record in self.records())

    def _failed(self) -> Iterator[bytes]:
        return (_key(failure) for failure in self.failures())


def report_of(run_id: str) -> str:
    """Returns the name of a run's report."""
    return f"runs/{run_id}.json"


def claim_of(run_id: str) -> str:
    """Returns the name of the claim that a run has until it is complete, and again while it is replaced."""
    return f"runs/{run_id}.unfinished"


def content_of(record: Record) -> bytes:
    """Returns the identity of the bytes that a record's vector was made of, and of the model."""
    return identity(record.sha256, record.model_digest)


def _parts(stored: Stored, folder: str, suffix: str) -> list[str]:
    """Returns the names of the complete files in a folder."""
    name = re.compile(rf"{re.escape(folder)}/{_SHARD_NAME.pattern}{re.escape(suffix)}")
    return [stored_name for stored_name in stored.names if name.fullmatch(stored_name)]


def _number(name: str) -> tuple[int, int]:
    """Returns SSSSS and NNNNN of a name that ends in `part-SSSSS-of-NNNNN` and a suffix."""
    number, total = _SHARD_NAME.findall(name)[-1]
    return int(number), int(total)


def _frames(stored: Stored, name: str) -> Iterator[record_file.Frame]:
    try:
        with stored.open(name) as file:
            yield from record_file.frames(io.BufferedReader(file, 2**20) if isinstance(file, io.RawIOBase) else file)
    except (OSError, ValueError) as error:
        yield record_file.Frame(0, problem=f"the file cannot be read: {one_line(error)}")


def _failure(line: bytes, run_id: str) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise ValueError("the line does not end")
    try:
        failure = json.loads(line.decode())
    except RecursionError as error:
        raise ValueError("not a JSON object") from error
    if not isinstance(failure, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - what is wrong is the file
    for name, kind in _FAILURE_TYPES.items():
        if not isinstance(failure.get(name), kind):
            raise ValueError(f"expected the field {name} of type {kind.__name__}")  # noqa: TRY004 - as above
    if failure["run_id"] != run_id:
        raise ValueError(f"it is of the run {failure['run_id']!r}")
    if not isinstance(failure.get("is_file", False), bool):
        raise ValueError("expected the field is_file of type bool")  # noqa: TRY004 - as above
    _key(failure)
    return failure


def _key(failure: Mapping[str, Any]) -> bytes:
    key: str = failure["key"]
    return key.encode("utf-8", "surrogateescape")


def _checked(problem: str, content: Callable[[Any, Expected], Record], stored: Any, expected: Expected) -> Record | str:
    """Returns a record's content, or what is wrong with it: a problem of its place in the file, or of itself."""
    if problem:
        return problem
    try:
        return content(stored, expected)
    except ValueError as error:
        return str(error)
