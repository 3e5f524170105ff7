"""The rows of runs in BigQuery, against their reports."""

import json
from collections.abc import Mapping
from typing import Any

from pipeline.commands.verify.findings import Check, Findings, counted
from pipeline.commands.verify.report_file import COUNTS, Invalid, contradictions, parse
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
    except Exception as error:
        raise ValueError(f"--output_table {table!r} cannot be read: {one_line(error)}") from error
    for row in rows:
        if run_id in (None, row["run_id"]):
            try:
                usable[row["run_id"]] = parse(str(row["report"]).encode())
            except Invalid as error:
                findings.problem("a report in the table is broken", f"run {row['run_id']}: {one_line(error)}")
    return usable


def check(table: str, run_id: str, report: Mapping[str, Any], findings: Findings) -> None:
    """Checks the rows of a run.

    Args:
      table: PROJECT.DATASET.TABLE.
      run_id: names the run.
      report: its fields, as its file has them.
      findings: gets the outcome.
    """
    with findings.check(f"run {run_id}: table") as outcome:
        try:
            _check(table, run_id, report, outcome, findings)
        except Exception as error:  # noqa: BLE001 - Google's clients have errors of several families
            findings.problem("a table cannot be read", f"{table}: {one_line(error)}")


def _check(table: str, run_id: str, report: Mapping[str, Any], outcome: Check, findings: Findings) -> None:
    model, counts = report["model"], report["counts"]
    (rows,) = tables.query(
        table,
        _ROWS.format(table=table),
        run_id=run_id,
        dimension=str(model["dimension"]),
        digest=model["digest"],
        model=model["name"],
    )
    number, expected = rows["row_count"], counts["embedded"] + counts["reused"] + counts["duplicate"]
    for column, kind in _WRONG_ROWS.items():
        if rows[column]:
            findings.problem(f"a row {kind}", f"run {run_id}: {rows[column]:,} rows", rows[column])
    if number != expected:
        _explain_difference(table, run_id, report, (number, expected), findings)
    (keys,) = tables.query(table, _KEYS.format(table=table), digest=model["digest"])
    if repeated := keys["row_count"] - keys["key_count"]:
        findings.problem("a key has several rows of one model", f"model digest {model['digest']}", repeated)
    failed = _check_failures(table, run_id, report, findings)
    _check_run(table, run_id, report, findings)
    outcome.text = (
        f"run {run_id}: {counted(number, 'row')} in the table: vectors of {model['dimension']} finite components, "
        f"one per key and model; {counted(failed, 'failure')}; the run's own row"
    )


def _explain_difference(
    table: str, run_id: str, report: Mapping[str, Any], numbers: tuple[int, int], findings: Findings
) -> None:
    number, expected = numbers
    (later,) = tables.query(
        table, _LATER.format(table=table_name.runs(table)), run_id=run_id, started_at=report["started_at"]
    )
    item = f"run {run_id}: {number:,}, expected {expected:,}"
    if number < expected and later["row_count"]:
        findings.note("fewer rows than the run wrote: later runs have replaced or pruned rows", item)
    else:
        findings.problem("the number of rows differs from the report's", item)


def _check_failures(table: str, run_id: str, report: Mapping[str, Any], findings: Findings) -> int:
    rows = tables.query(table, _FAILURES.format(table=table_name.failures(table)), run_id=run_id)
    stored = {(row["stage"], row["error"]): row["row_count"] for row in rows}
    reported = {
        (stage, error): images for stage, errors in report["failures"].items() for error, images in errors.items()
    }
    for stage, error in sorted(stored.keys() | reported.keys()):
        own, expected = stored.get((stage, error), 0), reported.get((stage, error), 0)
        if own != expected:
            findings.problem(
                "the number of failures in the table differs from the report's",
                f"run {run_id}: {own:,} {error} of the stage {stage}, expected {expected:,}",
            )
    return sum(stored.values())


def _check_run(table: str, run_id: str, report: Mapping[str, Any], findings: Findings) -> None:
    rows = tables.query(table, _RUN.format(table=table_name.runs(table)), run_id=run_id)
    if len(rows) != 1:
        findings.problem("a run has not one row of its own", f"run {run_id}: {len(rows)} rows")
        return
    counts = report["counts"]
    expected = {
        "run_id": run_id,
        "model": report["model"]["name"],
        "model_digest": report["model"]["digest"],
        "dimension": report["model"]["dimension"],
        **{name: counts[name] for name in COUNTS},
        "pruned": report["pruned"],
        "failure_rate": counts["failed"] / counts["listed"] if counts["listed"] else 0.0,
        "verdict": report["verdict"],
    }
    differences = [name for name, value in expected.items() if rows[0][name] != value]
    for name in ("started_at", "finished_at"):
        if rows[0][name].isoformat(timespec="milliseconds") != report[name]:
            differences.append(name)
    content = {name: value for name, value in report.items() if name != "checksum"}
    # The page and its statistics are written after the rows are published.
    later = f"runs/{run_id}.html", f"runs/{run_id}.statistics"
    content["files"] = {name: digest for name, digest in report["files"].items() if name not in later}
    of_page = {"page_error": ""}
    try:
        stored = json.loads(rows[0]["report"])
        if not isinstance(stored, dict) or stored | of_page != content | of_page:
            differences.append("report")
    except ValueError:
        differences.append("report")
    if differences:
        findings.problem("a run's own row differs from its report", f"run {run_id}: {', '.join(differences)}")
    for contradiction in contradictions(report, run_id):
        findings.problem("a report in the table is broken", f"run {run_id}: {contradiction}")
