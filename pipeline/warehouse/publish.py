"""Publishing: the rows of a run, loaded into staging tables, become part of the table all at once or not at all.

First a gate looks at what was loaded; then one transaction merges it. Both happen in the pipeline, when its loads have
ended: a job that was launched from a template has nobody waiting for it.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
from google.api_core import exceptions, retry

from pipeline.report.run_report import RunReport
from pipeline.warehouse import tables
from pipeline.warehouse.tables import RUN_COLUMNS, Staging
from transforms.storage import files
from transforms.write_bigquery import EMBEDDING_COLUMNS, FAILURE_COLUMNS

# Of all rows, how often each thing happens that must not; a vector of zeros has no direction to compare.
_GATE = """
SELECT
  COUNT(*) AS row_count,
  COUNTIF((SELECT COUNT(*) FROM UNNEST(embedding) AS x WHERE IS_NAN(x) OR IS_INF(x)) > 0) AS not_finite,
  COUNTIF((SELECT COUNT(*) FROM UNNEST(embedding) AS x WHERE x != 0) = 0) AS zero,
  COUNTIF(ARRAY_LENGTH(embedding) != CAST(@dimension AS INT64)) AS other_dimension,
  COUNTIF(model_digest != @digest) AS other_model
FROM `{table}`
"""

# A row that is there gives way to one of a later generation of its object, or where versions are none to compare, of a
# later run: of two runs at once the one that listed first may end last.
_MERGE = """
MERGE `{table}` AS there
USING (
  SELECT * FROM `{staging}`
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY key, model_digest ORDER BY version DESC) = 1
) AS new
ON there.key = new.key AND there.model_digest = new.model_digest
WHEN MATCHED AND IF(
  SAFE_CAST(new.version AS INT64) IS NOT NULL AND SAFE_CAST(there.version AS INT64) IS NOT NULL,
  SAFE_CAST(new.version AS INT64) >= SAFE_CAST(there.version AS INT64),
  new.embedded_at >= there.embedded_at
) THEN UPDATE SET {updates}
WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({values})
"""

# Just the row that this run saw: one that another run has written since stays.
_PRUNE = """
DELETE FROM `{table}` AS there
WHERE EXISTS (
  SELECT 1 FROM `{staging}` AS gone
  WHERE gone.key = there.key AND gone.version = there.version AND gone.model_digest = there.model_digest
)
"""

# By the run's own row: a run without failures has no row among them that would tell its name.
_REPLACE = """
DELETE FROM `{table}` WHERE run_id IN (SELECT run_id FROM `{run}`);
INSERT INTO `{table}` ({columns}) SELECT {columns} FROM {rows}
"""

# A row that was staged twice, its reply being lost, is one.
_ONCE = (
    "(SELECT * FROM `{run}` WHERE TRUE QUALIFY ROW_NUMBER() OVER (PARTITION BY run_id ORDER BY finished_at DESC) = 1)"
)


class GateRefused(RuntimeError):
    """What was loaded is not what was embedded; the table is as it was, and the staging table is kept."""


@dataclasses.dataclass(frozen=True)
class Publication:
    """What is published where.

    Attributes:
      table: PROJECT.DATASET.TABLE.
      staging: what was loaded.
      temp_location: a gs:// directory of its own for the files that are loaded, removed when they are published.
      make_latest: whether `<table>_latest` shows this run's model from then on.
    """

    table: str
    staging: Staging
    temp_location: str
    make_latest: bool


def prepare(table: str, digest: str, temp_location: str, make_latest: bool) -> Publication:
    """Makes or checks the tables, and returns the publication of one attempt at a run; raises ValueError."""
    staging = tables.prepare(table, digest)
    own = f"{temp_location}/{staging.embeddings.rpartition('.')[2]}"
    return Publication(table, staging, own, make_latest)


def published(table: str, run_id: str) -> RunReport | None:
    """Returns the report of a run whose rows are in the table, None where there is none (yet)."""
    row = tables.read_report(table, run_id)
    return RunReport.from_json(row) if row else None


def check(publication: Publication, report: RunReport) -> None:
    """The quality gate: looks at the loaded rows.

    Raises:
      GateRefused: with everything that is wrong, and where the rows are.
    """
    staging = publication.staging
    (found,) = tables.query(
        publication.table,
        _GATE.format(table=staging.embeddings),
        dimension=str(report.model["dimension"]),
        digest=report.model["digest"],
    )
    counts = report.counts
    problems = [
        f"{found[name]} rows {words}"
        for name, words in (
            ("not_finite", "with NaN or infinite components"),
            ("zero", "with a vector of zeros"),
            ("other_dimension", f"of other than {report.model['dimension']} dimensions"),
            ("other_model", "of another model digest"),
        )
        if found[name]
    ]
    expected = counts["embedded"] + counts["reused"] + counts["duplicate"]
    if found["row_count"] != expected:
        problems.insert(0, f"{found['row_count']} rows where the pipeline counted {expected}")
    for table, expected in ((staging.failures, counts["failed"]), (staging.gone, report.pruned)):
        (rows,) = tables.query(publication.table, f"SELECT COUNT(*) AS row_count FROM `{table}`")  # noqa: S608
        if rows["row_count"] != expected:
            problems.append(f"{rows['row_count']} rows in {table} where the pipeline counted {expected}")
    if problems:
        raise GateRefused(
            f"nothing was published to {publication.table}: {'; '.join(problems)}; the rows are in {staging.embeddings}"
        )


def publish(publication: Publication, report: RunReport) -> None:
    """Checks and merges what was loaded, and drops the staging tables; what is published already stays as it is.

    Raises:
      GateRefused: see `check`.
    """
    table, staging = publication.table, publication.staging
    there = published(table, report.run_id)
    if there is None or there.started_at != report.started_at:
        check(publication, report)
        _stage_run(publication, report)
        _commit(table, transaction(table, staging))
    if publication.make_latest:
        tables.show(table, report.model["digest"])
    tables.drop(staging)
    files.remove(publication.temp_location)


def transaction(table: str, staging: Staging) -> str:
    """Returns the script that publishes a run. It has no values, only names of tables and columns."""
    names = [column["name"] for column in EMBEDDING_COLUMNS]
    statements = [
        _PRUNE.format(table=table, staging=staging.gone),
        _MERGE.format(
            table=table,
            staging=staging.embeddings,
            updates=", ".join(f"{name} = new.{name}" for name in names),
            columns=", ".join(names),
            values=", ".join(f"new.{name}" for name in names),
        ),
        _REPLACE.format(
            table=tables.failures_table(table),
            run=staging.run,
            rows=f"`{staging.failures}`",
            columns=", ".join(column["name"] for column in FAILURE_COLUMNS),
        ),
        _REPLACE.format(
            table=tables.runs_table(table),
            run=staging.run,
            rows=_ONCE.format(run=staging.run),
            columns=", ".join(column["name"] for column in RUN_COLUMNS),
        ),
    ]
    return ";\n".join(("BEGIN TRANSACTION", *(statement.strip() for statement in statements), "COMMIT TRANSACTION;"))


def _stage_run(publication: Publication, report: RunReport) -> None:
    row = {
        "run_id": report.run_id,
        "started_at": report.started_at,
        "finished_at": report.finished_at,
        "model": report.model["name"],
        "model_digest": report.model["digest"],
        "dimension": report.model["dimension"],
        **report.counts,
        "pruned": report.pruned,
        "failure_rate": report.failure_rate,
        "verdict": report.verdict,
        "report": json.dumps(dataclasses.asdict(report)),
    }
    columns = {column["name"]: column["type"] for column in RUN_COLUMNS}
    values = ", ".join(f"CAST(@{name} AS {_SQL_TYPES.get(kind, kind)})" for name, kind in columns.items())
    tables.query(
        publication.table,
        f"INSERT INTO `{publication.staging.run}` ({', '.join(columns)}) VALUES ({values})",  # noqa: S608 - names only
        **{name: str(row[name]) for name in columns},
    )


_SQL_TYPES = {"INTEGER": "INT64", "FLOAT": "FLOAT64"}


def _overtaken(error: BaseException) -> bool:
    """Whether a transaction gave way to another one that ran at the same time; nothing of it was done."""
    return isinstance(error, exceptions.GoogleAPICallError) and any(
        words in str(error).lower() for words in ("concurrent update", "could not serialize", "too many dml")
    )


# https://cloud.google.com/bigquery/docs/transactions#transaction_concurrency
@retry.Retry(predicate=_overtaken, initial=2, maximum=60, timeout=1800)
def _commit(table: str, script: str) -> None:
    tables.run(table, script)


@dataclasses.dataclass(eq=False)
class PublishRows(beam.PTransform):
    """RunReport → the same, once its rows are published.

    Attributes:
      publication: what is published where.
      loads: what the load jobs gave when they ended.
    """

    publication: Publication
    loads: Sequence[beam.PCollection]

    def expand(self, report: beam.PCollection[RunReport]) -> beam.PCollection[RunReport]:
        ended = tuple(self.loads) | "Ended" >> beam.Flatten()
        return report | "Publish" >> beam.ParDo(_Publish(self.publication), ended=beam.pvalue.AsIter(ended))


class _Publish(beam.DoFn):
    def __init__(self, publication: Publication):
        self._publication = publication

    def process(self, report: RunReport, ended: Iterable[Any]) -> Iterable[RunReport]:
        publish(self._publication, report)
        yield report
