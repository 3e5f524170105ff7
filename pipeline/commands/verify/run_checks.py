"""The checks of one run: its report, its records and its failures, and that they agree."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

from pipeline.commands.verify import failure_file, file_names, report_file, schema_file
from pipeline.commands.verify.failure_file import FailedImage
from pipeline.commands.verify.file_names import PARQUET, SCHEMA
from pipeline.commands.verify.findings import Findings, counted
from pipeline.commands.verify.identities import Identities, identity
from pipeline.commands.verify.record_file import Record
from pipeline.commands.verify.run_files import RunFiles
from transforms.elements.keys import name as key_name
from transforms.elements.one_line import one_line


class CheckedRun(NamedTuple):
    """A run that was checked: its files with its report, and the keys that have a record and those that failed."""

    files: RunFiles
    keys: Identities
    failed_keys: Identities


def check(files: RunFiles, each: Callable[[Record], None], findings: Findings) -> CheckedRun:
    """Checks all files of a run, given without its report, and calls `each` with each good record."""
    files = _check_report(files, findings)
    keys = _check_vectors(files, each, findings)
    return CheckedRun(files, keys, _check_failures(files, keys, findings))


def _check_report(files: RunFiles, findings: Findings) -> RunFiles:
    """Returns the files with their report, if it can be used."""
    with findings.check(f"run {files.run_id}: report") as outcome:
        report = _report(files, findings)
        if report is None:
            return files
        files = dataclasses.replace(files, report=report)
        listed, *outcomes = report_file.COUNTS
        counts = report["counts"]
        parts = " + ".join(f"{counts[each]:,} {each}" for each in outcomes)
        images = counted(counts[listed], "image")
        outcome.text = f"run {files.run_id}: report: its checksum, and {images} listed = {parts}"
        _check_digests(files, report["files"], findings)
        return files


def _report(files: RunFiles, findings: Findings) -> dict[str, Any] | None:
    """Returns the fields of the report, or None if it cannot be used."""
    name = file_names.report_of(files.run_id)
    if not files.output.has(name):
        findings.problem("a run without a report: it is unfinished, or the report was deleted", name)
        return None
    try:
        content = files.output.read(name, report_file.MAX_BYTES)
        report = report_file.parse(content)
    except report_file.Invalid as error:
        findings.problem("a report is broken", f"{name}: {one_line(error)}")
        return None
    except (OSError, ValueError) as error:
        findings.problem("a file cannot be read", f"{name}: {one_line(error)}")
        return None
    for problem in (*report_file.damage(content, report), *report_file.contradictions(report, files.run_id)):
        findings.problem("a report is broken", f"{name}: {problem}")
    return report


def _check_digests(files: RunFiles, digests: dict[str, str], findings: Findings) -> None:
    """Compares the files that have no checksums of their own with the digests in the report."""
    of_page = [name for name in file_names.page_files_of(files.run_id) if files.output.has(name)]
    own = {name: [name] for name in (SCHEMA, *files.failures, *of_page)}
    together = f"embeddings/{files.run_id}/part-*{PARQUET}"
    if files.vectors[PARQUET]:
        own[together] = files.vectors[PARQUET]
    for name in sorted(own.keys() - digests.keys()):
        findings.problem("a file is not in the report", name)
    for name in sorted(digests.keys() - own.keys()):
        findings.problem("a file of the report is missing", name)
    for name in sorted(own.keys() & digests.keys()):
        try:
            each = [files.output.sha256(file) for file in own[name]]
            sha256 = _sha256("".join(each).encode()) if name == together else each[0]
            has_changed = sha256 != digests[name] and not (name == SCHEMA and _earlier_schema(files) == digests[name])
        except FileNotFoundError:
            findings.problem("a file of the report is missing", name)
        except (OSError, ValueError) as error:
            findings.problem("a file cannot be read", f"{name}: {one_line(error)}")
        else:
            if has_changed:
                findings.problem("a file has changed since the run wrote it", name)


def _earlier_schema(files: RunFiles) -> str:
    """Returns the SHA-256 of the schema as a run of an earlier version wrote it into this output."""
    return _sha256(schema_file.before_shard(files.output.read(SCHEMA, schema_file.MAX_BYTES)))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check_vectors(files: RunFiles, each: Callable[[Record], None], findings: Findings) -> Identities:
    """Returns the keys that have a record in the first format of the run."""
    first, *others = files.formats
    with findings.check(f"run {files.run_id}: records") as outcome:
        _check_names(files, "embeddings", files.vectors.values(), findings)
        _check_number_of_files(files, findings)
        keys, outcome.text = _check_records(files, first, each, findings)
    for suffix in others:
        with findings.check(f"run {files.run_id}: records") as outcome:
            own, outcome.text = _check_records(files, suffix, each, findings)
            alone = own.where(~own.also_in(keys)) | keys.where(~keys.also_in(own))
            _name_keys("a key has a record in one format only", alone, _recorded(files), files, findings)
    return keys


def _check_names(files: RunFiles, folder: str, of_formats: Iterable[list[str]], findings: Findings) -> None:
    """Checks that a folder of the run has all the files that the numbers in their names promise, and no others."""
    root = f"{folder}/{files.run_id}"
    of_formats = list(of_formats)
    known = {name for names in of_formats for name in names}
    for name in files.output.below(root):
        if name in known:
            continue
        if not file_names.is_unfinished(name):
            findings.problem("a stray file", name)
        elif files.is_finished:  # a run that is not finished, or is being replaced, may have such files
            findings.problem("an unfinished file of a finished run", name)
    for names in of_formats:
        numbers = [file_names.number_and_total(name) for name in names]
        totals = {total for _, total in numbers}
        for total in sorted(totals):
            present = sum(of == total and number < total for number, of in numbers)
            if present < total or len(totals) > 1:
                item = f"{root}/part-…-of-{total:05d}: {present:,} of {total:,}"
                findings.problem("files of a run are missing", item)


def _check_number_of_files(files: RunFiles, findings: Findings) -> None:
    own = sum(map(len, files.vectors.values()))
    if files.report and files.report["shards"] != own:
        item = f"embeddings/{files.run_id}/: {own:,}, expected {files.report['shards']:,}"
        findings.problem("the number of files differs from the report's", item)


def _check_records(
    files: RunFiles, suffix: str, each: Callable[[Record], None], findings: Findings
) -> tuple[Identities, str]:
    """Checks the records in one format, and returns their keys and what was checked, in words."""
    keys, number = Identities(), 0
    for name in files.vectors[suffix]:
        for place, record in files.read(name):
            number += 1
            if isinstance(record, str):
                findings.problem("a record is broken", f"{name} {place}: {record}")
                continue
            keys.add(identity(record.key))
            if not record.vector.any():
                findings.note("a vector of zeros, which has no direction to compare", key_name(record.key))
            each(record)
    if files.report and number != (expected := report_file.vectors(files.report)):
        item = f"embeddings/{files.run_id}/: {number:,}, expected {expected:,}"
        findings.problem("the number of records differs from the report's", item)
    _name_keys("a key has several records in one run", keys.repeated(), _recorded(files), files, findings)
    dimension = files.report["model"]["dimension"] if files.report else "any"
    kind, values = ("Parquet file", "columns") if suffix == PARQUET else ("file", "features")
    return keys, (
        f"run {files.run_id}: {counted(number, 'record')} in {counted(len(files.vectors[suffix]), kind)}: checksums, "
        f"{values}, vectors of {dimension} finite components, one per key"
    )


def _check_failures(files: RunFiles, keys: Identities, findings: Findings) -> Identities:
    """Returns the keys that failed; `keys` are those that have a record."""
    with findings.check(f"run {files.run_id}: failures") as outcome:
        _check_names(files, "failures", [files.failures], findings)
        failed_keys = Identities()
        by_error: Counter[tuple[str, str]] = Counter()
        for failure in _failures(files, findings):
            failed_keys.add(identity(failure.key))
            by_error[failure.stage, failure.error] += 1
        for difference in report_file.other_failures(files.report, by_error) if files.report else ():
            item = f"failures/{files.run_id}/: {difference}"
            findings.problem("the number of failures differs from the report's", item)
        failed = (failure.key for failure in _failures(files, Findings()))  # their problems were already reported
        _name_keys("a key has several failures in one run", failed_keys.repeated(), failed, files, findings)
        both = keys.where(keys.also_in(failed_keys))
        _name_keys("a key has a record and a failure in one run", both, _recorded(files), files, findings)
        images, of_files = counted(len(failed_keys), "failure"), counted(len(files.failures), "file")
        outcome.text = f"run {files.run_id}: {images} in {of_files}: fields, one per key"
        return failed_keys


def _failures(files: RunFiles, findings: Findings) -> Iterator[FailedImage]:
    """Yields the well-formed failures."""
    for name in files.failures:
        try:
            with files.output.open(name) as file:
                for number, failure in failure_file.failures(file, files.run_id):
                    if isinstance(failure, FailedImage):
                        yield failure
                    else:
                        findings.problem("a failure is broken", f"{name} in line {number:,}: {failure}")
        except (OSError, ValueError) as error:
            findings.problem("a file cannot be read", f"{name}: {one_line(error)}")


def _recorded(files: RunFiles) -> Iterator[bytes]:
    return (record.key for record in files.records())


def _name_keys(
    kind: str, wanted: Collection[bytes], keys: Iterator[bytes], files: RunFiles, findings: Findings
) -> None:
    """Reports each key with a wanted identity once. The keys are read only if there is such an identity."""
    left = set(wanted)
    for key in keys if left else ():
        if (hashed := identity(key)) in left:
            left.remove(hashed)
            findings.problem(kind, f"run {files.run_id}: {key_name(key)}")
