"""The names of the files in an output, defined a second time, independently of the writer."""

import re
from collections.abc import Collection, Iterable

from pipeline.commands.verify.findings import Findings
from transforms.elements.run_id import check_run_id

SCHEMA = "schema.pbtxt"
# In the order of the listing. A run that is complete when `runs` is listed has its other files when they are listed.
FOLDERS = ("runs", "embeddings", "failures")
TFRECORD, PARQUET, FAILURES = ".tfrecord", ".parquet", ".jsonl"

_OF_RUN = re.compile(r"(?:embeddings|failures)/([^/]+)/.+|runs/([^/]+)\.(?:json|html|statistics|unfinished)", re.DOTALL)
# A process fills such a file, and renames it.
_BEING_WRITTEN = re.compile(r"runs/\.([^/]+)\.(?:json|html|statistics|unfinished)\.[0-9a-f]{32}", re.DOTALL)
_PART = re.compile("part-([0-9]{5,9})-of-([0-9]{5,9})")


def report_of(run_id: str) -> str:
    """Returns the name of a run's report."""
    return f"runs/{run_id}.json"


def page_files_of(run_id: str) -> tuple[str, str]:
    """Returns the names of a run's page, and of its statistics."""
    return f"runs/{run_id}.html", f"runs/{run_id}.statistics"


def claim_of(run_id: str) -> str:
    """Returns the name of the claim that a run has until it is complete, and again while it is replaced."""
    return f"runs/{run_id}.unfinished"


def is_unfinished(name: str) -> bool:
    """Returns whether a file in a run's folder is not under its final name."""
    return "/." in name


def complete(names: Iterable[str], folder: str, suffix: str) -> list[str]:
    """Returns the names of the complete files in a folder: `part-SSSSS-of-NNNNN` and the suffix."""
    pattern = re.compile(f"{re.escape(folder)}/{_PART.pattern}{re.escape(suffix)}")
    return [name for name in names if pattern.fullmatch(name)]


def number_and_total(name: str) -> tuple[int, int]:
    """Returns SSSSS and NNNNN of the name of a complete file."""
    number, total = _PART.findall(name)[-1]
    return int(number), int(total)


def complete_runs(names: Collection[str], findings: Findings) -> set[str]:
    """Returns the names of all complete runs, and reports files that belong to no run.

    A run without a report is unfinished if it has a claim, or nothing but unfinished files.
    """
    every: set[str] = set()
    with_files: set[str] = set()
    for name in names:
        run_id = _run_id(name)
        if run_id is None:
            if name != SCHEMA:
                findings.problem("a stray file", name)
            continue
        every.add(run_id)
        if _BEING_WRITTEN.fullmatch(name):
            findings.note("a file that a process is writing, or was when it was killed", name)
        elif not is_unfinished(name) and name != claim_of(run_id):
            with_files.add(run_id)
    present = set(names)
    claimed = {run_id for run_id in every if claim_of(run_id) in present}
    runs = {run_id for run_id in with_files if run_id not in claimed or report_of(run_id) in present}
    for run_id in sorted(every - runs):
        findings.note("an unfinished run", run_id)
    for run_id in sorted(runs & claimed):
        findings.note("a complete run that an unfinished one is to replace, or that is not cleaned up yet", run_id)
    if not every and SCHEMA in present:
        findings.problem("a file without a run", SCHEMA)
    return runs


def _run_id(name: str) -> str | None:
    """Returns the name of the run that a file belongs to; None if it belongs to none."""
    match = _BEING_WRITTEN.fullmatch(name) or _OF_RUN.fullmatch(name)
    if match is None:
        return None
    run_id = str(next(filter(None, match.groups())))
    try:
        check_run_id(run_id)
    except ValueError:
        return None
    return run_id
