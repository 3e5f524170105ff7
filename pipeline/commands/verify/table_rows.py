"""The rows of runs in BigQuery, against their reports."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.commands.verify import file_names, report_file
from pipeline.commands.verify.findings import Findings, counted
from pipeline.warehouse import tables
from transforms.elements import table_name
from transforms.elements.one_line import one_line

_ROWS = """
SELECT
  COUNT(*) AS row_count,
  COUNTIF(ARRAY_LENGTH(embedding) != CAST(@dimension AS INT64)) AS dimension,
  COUNTIF((SELECT COUNT(*) FROM UNNEST(embedding) AS x WHERE IS_NAN(x) OR IS_INF(x)) > 0) AS finite,
  COUNTIF((SELECT COUNT(*) FROM UNNEST(embedding) AS x WHERE x != 0) = 0) AS zero,
  COUNTIF(model_digest != @digest OR model != @model) AS model,
  COUNTIF(NOT REGEXP_CONTAINS(sha256, '^[0-9a-f]{{64}}$')) AS sha256
FROM `{table}` WHERE run_id = @run_id
"""
_KEYS = """
SELECT COUNT(*) AS row_count, COUNT(DISTINCT key) AS key_count FROM `{table}` WHERE model_digest = @digest
"""
_FAILURES = """
SELECT stage, error, COUNT(*) AS row_count FROM `{table}` WHERE run_id = @run_id GROUP BY stage, error
"""
_RUN = """
SELECT * FROM `{table}` WHERE run_id = @run_id
"""
_LATER = """
SELECT COUNT(*) AS row_count FROM `{table}`
WHERE run_id != @run_id AND finished_at >= CAST(@started_at AS TIMESTAMP)
"""
_REPORTS = """
SELECT run_id, report FROM `{table}` ORDER BY started_at
"""
_WRONG_ROWS = {
    "dimension": "of another dimension",
    "finite": "with a vector that is not finite",
    "zero": "with a vector of zeros",
    "model": "of another model",
    "sha256": "without a SHA-256",
}


def reports(table: str, run_id: str | None, findings: Findings) -> dict[str, dict[str, Any]]:
    """Returns run id → report of one run in the table, or of all runs, the latest last."""
    usable = {}
    try:
        rows = tables.query(table, _REPORTS.format(table=table_name.runs(table)))
    except Exception as error:  # as in `check`
        raise ValueError(f"--output_table {table!r} cannot be read: {one_line(error)}") from error
    for row in rows:
        if run_id in (None, row["run_id"]):
            try:
                usable[row["run_id"]] = report_file.parse(str(row["report"]).encode())
            except report_file.Invalid as error:
                findings.problem("a report in the table is broken", f"run {row['run_id']}: {one_line(error)}")
    return usable


def check(table: str, run_id: str, report: Mapping[str, Any], findings: Findings) -> None:
    """Checks the rows of a run in PROJECT.DATASET.TABLE against the fields of its report."""
    with findings.check(f"run {run_id}: table") as outcome:
        try:
            outcome.text = _RunRows(table, run_id, report, findings).check()
        except Exception as error:  # noqa: BLE001 - Google's clients have errors of several families
            findings.problem("a table cannot be read", f"{table}: {one_line(error)}")


@dataclasses.dataclass(frozen=True)
class _RunRows:
    """The rows of one run, in all three tables."""

    table: str
    run_id: str
    report: Mapping[str, Any]
    findings: Findings

    def check(self) -> str:
        """Returns what was checked, in words."""
        model = self.report["model"]
        (rows,) = tables.query(
            self.table,
            _ROWS.format(table=self.table),
            run_id=self.run_id,
            dimension=str(model["dimension"]),
            digest=model["digest"],
            model=model["name"],
        )
        for column, kind in _WRONG_ROWS.items():
            if rows[column]:
                self._problem(f"a row {kind}", f"{rows[column]:,} rows", rows[column])
        self._check_number(rows["row_count"])
        (keys,) = tables.query(self.table, _KEYS.format(table=self.table), digest=model["digest"])
        if repeated := keys["row_count"] - keys["key_count"]:
            self.findings.problem("a key has several rows of one model", f"model digest {model['digest']}", repeated)
        failed = self._check_failures()
        self._check_own_row()
        return (
            f"run {self.run_id}: {counted(rows['row_count'], 'row')} in the table: vectors of {model['dimension']} "
            f"finite components, one per key and model; {counted(failed, 'failure')}; the run's own row"
        )

    def _problem(self, kind: str, item: str, count: int = 1) -> None:
        self.findings.problem(kind, f"run {self.run_id}: {item}", count)

    def _check_number(self, number: int) -> None:
        """Compares the number of rows with the report's. Later runs may have replaced or pruned some."""
        if number == (expected := report_file.vectors(self.report)):
            return
        of_later = _LATER.format(table=table_name.runs(self.table))
        (later,) = tables.query(self.table, of_later, run_id=self.run_id, started_at=self.report["started_at"])
        item = f"{number:,}, expected {expected:,}"
        if number < expected and later["row_count"]:
            kind = "fewer rows than the run wrote: later runs have replaced or pruned rows"
            self.findings.note(kind, f"run {self.run_id}: {item}")
        else:
            self._problem("the number of rows differs from the report's", item)

    def _check_failures(self) -> int:
        """Returns how many failures the table has."""
        query = _FAILURES.format(table=table_name.failures(self.table))
        rows = tables.query(self.table, query, run_id=self.run_id)
        stored = {(row["stage"], row["error"]): row["row_count"] for row in rows}
        for difference in report_file.other_failures(self.report, stored):
            self._problem("the number of failures in the table differs from the report's", difference)
        return sum(stored.values())

    def _check_own_row(self) -> None:
        rows = tables.query(self.table, _RUN.format(table=table_name.runs(self.table)), run_id=self.run_id)
        if len(rows) != 1:
            self._problem("a run has not one row of its own", f"{len(rows)} rows")
            return
        if differences := list(_differences(rows[0], self.report)):
            self._problem("a run's own row differs from its report", ", ".join(differences))
        for contradiction in report_file.contradictions(self.report, self.run_id):
            self._problem("a report in the table is broken", contradiction)


def _differences(row: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    """Yields the columns of a run's own row that differ from its report."""
    counts, model = report["counts"], report["model"]
    expected = {
        "model": model["name"],
        "model_digest": model["digest"],
        "dimension": model["dimension"],
        **{name: counts[name] for name in report_file.COUNTS},
        "pruned": report["pruned"],
        "failure_rate": counts["failed"] / counts["listed"] if counts["listed"] else 0.0,
        "verdict": report["verdict"],
    }
    yield from (name for name, value in expected.items() if row[name] != value)
    for name in ("started_at", "finished_at"):
        if row[name].isoformat(timespec="milliseconds") != report[name]:
            yield name
    content = {name: value for name, value in report.items() if name != "checksum"}
    # The page and its statistics are written after the rows are published.
    later = file_names.page_files_of(row["run_id"])
    content["files"] = {name: digest for name, digest in report["files"].items() if name not in later}
    of_page = {"page_error": ""}
    try:
        stored = json.loads(row["report"])
    except ValueError:
        stored = None
    if not isinstance(stored, dict) or stored | of_page != content | of_page:
        yield "report"
