"""Publishing: the rows of a run are loaded into staging tables, and move to the table all at once or not at all.

A gate checks the loaded rows, then one transaction merges them. Both are steps of the pipeline, because nobody waits
for a job that was launched from a template.
"""

import dataclasses
import datetime
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from google.api_core import exceptions, retry

from pipeline.model_checks import similarity
from pipeline.report.run_report import RunReport
from pipeline.warehouse import tables
from pipeline.warehouse.tables import RUN_COLUMNS, STAGED_RUN_COLUMNS, Staging
from transforms.elements import table_name
from transforms.elements.one_line import one_line
from transforms.storage import contested, files
from transforms.write_bigquery import EMBEDDING_COLUMNS, FAILURE_COLUMNS

_LOG = logging.getLogger(__name__)

# Counts the rows, and the invalid ones. A vector of zeros has no direction to compare.
_GATE = """
SELECT
  COUNT(*) AS row_count,
  COUNTIF((SELECT COUNT(*) FROM UNNEST(embedding) AS x WHERE IS_NAN(x) OR IS_INF(x)) > 0) AS not_finite,
  COUNTIF((SELECT COUNT(*) FROM UNNEST(embedding) AS x WHERE x != 0) = 0) AS zero,
  COUNTIF(ARRAY_LENGTH(embedding) != CAST(@dimension AS INT64)) AS other_dimension,
  COUNTIF(model_digest != @digest) AS other_model
FROM `{table}`
"""

# A new row replaces an existing one of an earlier generation of its object. If versions are not numbers, it replaces
# one of a run that began earlier by BigQuery's clock. If two runs overlap, the one that listed first may end last.
_MERGE = """
MERGE `{table}` AS existing
USING (
  SELECT * FROM `{staging}`
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY key, model_digest ORDER BY version DESC) = 1
) AS new
ON existing.key = new.key AND existing.model_digest = new.model_digest
WHEN MATCHED AND IF(
  SAFE_CAST(new.version AS INT64) IS NOT NULL AND SAFE_CAST(existing.version AS INT64) IS NOT NULL,
  SAFE_CAST(new.version AS INT64) >= SAFE_CAST(existing.version AS INT64),
  new.embedded_at >= existing.embedded_at
) THEN UPDATE SET {updates}
WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({values})
"""

# Deletes only the row that this run saw. A row that another run wrote later stays.
_PRUNE = """
DELETE FROM `{table}` AS existing
WHERE EXISTS (
  SELECT 1 FROM `{staging}` AS gone
  WHERE gone.key = existing.key AND gone.version = existing.version AND gone.model_digest = existing.model_digest
)
"""

# The run's own row names the run: a run without failures has no row among the failures.
_REPLACE = """
DELETE FROM `{table}` WHERE run_id IN (SELECT run_id FROM `{run}`);
INSERT INTO `{table}` ({columns}) SELECT {columns} FROM {rows}
"""

# Fails if the run's row in the table is not the one that this attempt saw. A check before the transaction is not
# enough: the process may be stopped in between, and another attempt may publish the run meanwhile.
_CHECK_ROW = """
SELECT IF(COUNT(*) = 0, 0, ERROR(MAX(existing.run_id)))
FROM `{table}` AS existing INNER JOIN (SELECT DISTINCT run_id, replaces FROM `{run}`) AS own USING (run_id)
WHERE existing.started_at IS DISTINCT FROM own.replaces
"""

# The run's row is staged twice if the reply to the first request was lost.
_ROW_OF_RUN = (
    "(SELECT * FROM `{run}` WHERE TRUE QUALIFY ROW_NUMBER() OVER (PARTITION BY run_id ORDER BY finished_at DESC) = 1)"
)


class GateRefused(RuntimeError):
    """The loaded rows do not match the run's report. The table is unchanged, and the staging tables are gone."""


@dataclasses.dataclass(frozen=True)
class Publication:
    """The table where the rows of a run are published, and the tables that they come from.

    Attributes:
      table: PROJECT.DATASET.TABLE.
      staging: the tables that rows are loaded into.
      temp_location: a gs:// directory only of this run, for the files that are loaded. It is removed after publishing,
        with the files of attempts that died.
      make_latest: whether `<table>_latest` shows this run's model after publishing.
      max_pruned: the largest part of the rows that may be deleted, from 0 to 1; see RunReport.pruning.
      began_at: when the attempt began, by BigQuery's clock, so that the order of rows without generations depends on no
        machine's clock. None in a dry run.

    Raises:
      ValueError: if `table` is not the name of a table.
    """

    table: str
    staging: Staging
    temp_location: str
    make_latest: bool
    max_pruned: float = 1.0
    began_at: datetime.datetime | None = None

    def __post_init__(self) -> None:
        table_name.split(self.table)

    @property
    def loads(self) -> str:
        """The directory of the files that this attempt loads."""
        return f"{self.temp_location}/{table_name.split(self.staging.embeddings).table}"


def prepare(
    table: str, run_id: str, digest: str, temp_location: str, make_latest: bool, max_pruned: float = 1.0
) -> Publication:
    """Makes or checks the tables, and returns the publication of one attempt at a run, which `stage` begins.

    Raises:
      ValueError: see `tables.prepare`.
    """
    staging = tables.prepare(table, digest)
    began_at = tables.now(table)
    return Publication(table, staging, _loads(table, run_id, temp_location), make_latest, max_pruned, began_at)


def _loads(table: str, run_id: str, temp_location: str) -> str:
    return f"{temp_location}/{table}/loads/{run_id}"


def remove_loads(table: str, run_id: str, temp_location: str) -> None:
    """Removes the files that were loaded for a run whose last attempt was killed after it had published the run."""
    files.remove(_loads(table, run_id, temp_location))


def stage(publication: Publication) -> None:
    """Makes the staging tables, once the attempt holds the claim to its run. Raises ValueError, see `tables.stage`."""
    tables.stage(publication.table, publication.staging)


def discard(publication: Publication) -> None:
    """Deletes the staging tables of an attempt that has failed, and the files that were loaded into them."""
    tables.discard(publication.staging)
    files.remove(publication.loads)


def published(table: str, run_id: str) -> RunReport | None:
    """Returns the report of a run whose rows are in the table, or None if there is no such run yet."""
    report = tables.read_report(table, run_id)
    return RunReport.from_json(report, f"the report of run_id={run_id!r} in {table!r}") if report else None


def check(publication: Publication, report: RunReport) -> None:
    """Checks the loaded rows against the run's report.

    Raises:
      GateRefused: with all differences. The staging tables are deleted.
    """
    try:
        problems = [
            *_too_many_gone(publication, report),
            *_wrong_embeddings(publication, report),
            *_wrong_counts(publication, report),
        ]
    except exceptions.NotFound as error:  # as when a runner repeats a step that has failed
        raise GateRefused(
            f"nothing was published to {publication.table}: the staging tables are gone, as after this step has "
            f"refused their rows and has said why: {one_line(error)}"
        ) from error
    if problems:
        discard(publication)
        raise GateRefused(f"nothing was published to {publication.table}: {'; '.join(problems)}")


def _wrong_embeddings(publication: Publication, report: RunReport) -> Iterator[str]:
    model, counts = report.model, report.counts
    (loaded,) = tables.query(
        publication.table,
        _GATE.format(table=publication.staging.embeddings),
        dimension=str(model["dimension"]),
        digest=model["digest"],
    )
    expected = counts["embedded"] + counts["reused"] + counts["duplicate"]
    if loaded["row_count"] != expected:
        yield f"{loaded['row_count']} rows where the pipeline counted {expected}"
    for name, problem in (
        ("not_finite", "with NaN or infinite components"),
        ("zero", "with a vector of zeros"),
        ("other_dimension", f"of other than {model['dimension']} dimensions"),
        ("other_model", "of another model digest"),
    ):
        if loaded[name]:
            yield f"{loaded[name]} rows {problem}"


def _wrong_counts(publication: Publication, report: RunReport) -> Iterator[str]:
    staging = publication.staging
    for table, expected in ((staging.failures, report.counts["failed"]), (staging.gone, report.pruned)):
        (loaded,) = tables.query(publication.table, f"SELECT COUNT(*) AS row_count FROM `{table}`")  # noqa: S608
        if loaded["row_count"] != expected:
            yield f"{loaded['row_count']} rows in {table} where the pipeline counted {expected}"


def _too_many_gone(publication: Publication, report: RunReport) -> Iterator[str]:
    rows = report.pruning.get("prunable", 0)
    if report.pruning and report.pruned > publication.max_pruned * rows:
        yield (
            f"{report.pruned} of the {rows} rows of images that --input matches would be deleted, more than "
            f"--max_pruned {publication.max_pruned:g} allows: is a bucket or a disk empty by mistake? If these images "
            "are gone, the same command with --max_pruned 1 goes on"
        )


def publish(publication: Publication, report: RunReport, before_publishing: Callable[[], None] | None = None) -> None:
    """Checks and merges the loaded rows, and deletes the staging tables. A published run is not published again.

    Args:
      publication: the tables.
      report: of the run.
      before_publishing: see PublishRows.

    Raises:
      GateRefused: see `check`.
      contested.Lost: if a later attempt has published the run.
    """
    table, staging = publication.table, publication.staging
    earlier = published(table, report.run_id)
    if not _is_of(report, earlier):
        if before_publishing:
            before_publishing()
        check(publication, report)
        _warn_of_similarity(report)
        _publish_in_place_of(earlier, publication, report)
    if publication.make_latest:
        tables.show(table, report.model["digest"])
    tables.drop(staging)
    files.remove(publication.temp_location)


def _is_of(report: RunReport, row: RunReport | None) -> bool:
    """Returns whether a row is that of the attempt of this report."""
    return row is not None and (row.attempt, row.started_at) == (report.attempt, report.started_at)


def _publish_in_place_of(earlier: RunReport | None, publication: Publication, report: RunReport) -> None:
    """Publishes a run in place of the row that was seen, or of the row of another earlier attempt."""
    table, staging = publication.table, publication.staging
    while True:
        if earlier and earlier.attempt >= report.attempt > 0:
            raise contested.Lost(
                f"run_id={report.run_id!r}: another process has published this run, begun at {earlier.started_at}; "
                f"nothing was published to {table}"
            )
        _stage_run(publication, report, earlier)
        try:
            _commit(table, transaction(table, staging))
            return
        except exceptions.GoogleAPICallError:
            present = published(table, report.run_id)
            if _is_of(report, present):  # the reply was lost
                return
            if present == earlier:
                raise
            earlier = present
            tables.query(table, f"DELETE FROM `{staging.run}` WHERE TRUE")  # noqa: S608 - a name only


def _warn_of_similarity(report: RunReport) -> None:
    """Logs that vectors hardly differ. The rows are published: an untrained model has such vectors too."""
    if cosine := similarity.too_large(report.model):
        _LOG.warning(
            "run %s: the median cosine between sample images is %.3f, more than %.2f: the model seems to get other "
            "pixels than it was trained on",
            report.run_id,
            cosine,
            similarity.COLLAPSED_COSINE,
        )


def transaction(table: str, staging: Staging) -> str:
    """Returns the script that publishes a run. Its text has no values, only names of tables and columns."""
    columns = _names(EMBEDDING_COLUMNS)
    statements = [
        _CHECK_ROW.format(table=table_name.runs(table), run=staging.run),
        _PRUNE.format(table=table, staging=staging.gone),
        _MERGE.format(
            table=table,
            staging=staging.embeddings,
            updates=", ".join(f"{name} = new.{name}" for name in columns),
            columns=", ".join(columns),
            values=", ".join(f"new.{name}" for name in columns),
        ),
        _REPLACE.format(
            table=table_name.failures(table),
            run=staging.run,
            rows=f"`{staging.failures}`",
            columns=", ".join(_names(FAILURE_COLUMNS)),
        ),
        _REPLACE.format(
            table=table_name.runs(table),
            run=staging.run,
            rows=_ROW_OF_RUN.format(run=staging.run),
            columns=", ".join(_names(RUN_COLUMNS)),
        ),
    ]
    return ";\n".join(("BEGIN TRANSACTION", *(statement.strip() for statement in statements), "COMMIT TRANSACTION;"))


def _names(columns: Sequence[dict[str, str]]) -> list[str]:
    return [column["name"] for column in columns]


# Types whose name in SQL differs from that in the REST interface → the name in SQL.
_SQL_TYPES = {"INTEGER": "INT64", "FLOAT": "FLOAT64"}


def _stage_run(publication: Publication, report: RunReport, earlier: RunReport | None) -> None:
    """Inserts the run's own row into its staging table, with the row that it replaces."""
    row = _run_row(report) | {"replaces": earlier.started_at if earlier else ""}
    columns = ", ".join(_names(STAGED_RUN_COLUMNS))
    values = ", ".join(
        f"{'SAFE_CAST' if column['mode'] == 'NULLABLE' else 'CAST'}"
        f"(@{column['name']} AS {_SQL_TYPES.get(column['type'], column['type'])})"
        for column in STAGED_RUN_COLUMNS
    )
    tables.query(
        publication.table,
        f"INSERT INTO `{publication.staging.run}` ({columns}) VALUES ({values})",  # noqa: S608 - names only
        **{name: str(row[name]) for name in _names(STAGED_RUN_COLUMNS)},
    )


def _run_row(report: RunReport) -> dict[str, Any]:
    return {
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


def _overtaken(error: BaseException) -> bool:
    """Returns whether BigQuery undid a transaction because another one changed the same tables at the same time."""
    return isinstance(error, exceptions.GoogleAPICallError) and any(
        words in str(error).lower() for words in ("concurrent update", "could not serialize", "too many dml")
    )


# https://cloud.google.com/bigquery/docs/transactions#transaction_concurrency
@retry.Retry(predicate=_overtaken, initial=2, maximum=60, timeout=1800)
def _commit(table: str, script: str) -> None:
    tables.run(table, script)


@dataclasses.dataclass(eq=False)
class PublishRows(beam.PTransform):
    """RunReport → the same, once the run's rows are published.

    Attributes:
      publication: of these rows.
      loads: collections with an element for each load job that has ended, as WriteBigQuery returns them.
      before_publishing: called before the table is changed. If it raises an error, the table stays as it is.
    """

    publication: Publication
    loads: Sequence[beam.PCollection]
    before_publishing: Callable[[], None]

    def expand(self, report: beam.PCollection[RunReport]) -> beam.PCollection[RunReport]:
        ended = tuple(self.loads) | "Ended" >> beam.Flatten()
        return report | "Publish" >> beam.ParDo(
            _Publish(self.publication, self.before_publishing), ended=beam.pvalue.AsIter(ended)
        )


class _Publish(beam.DoFn):
    def __init__(self, publication: Publication, before_publishing: Callable[[], None]):
        self._publication = publication
        self._before_publishing = before_publishing

    def process(self, report: RunReport, ended: Iterable[Any]) -> Iterable[RunReport]:
        publish(self._publication, report, self._before_publishing)
        yield report
