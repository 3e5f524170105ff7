"""Makes, checks and queries the tables of a warehouse.

`<table>` holds one row for each key and model. `<table>_failures`, `<table>_runs` and the view `<table>_latest` belong
to it. A run writes into its own staging tables, which are deleted when it ends. Those of a run that is killed expire.
"""

import contextlib
import dataclasses
import datetime
import functools
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.cloud import bigquery

from transforms.elements import table_name
from transforms.write_bigquery import EMBEDDING_COLUMNS, FAILURE_COLUMNS, GONE_COLUMNS, column

_STAGING_DAYS = 7
# For requests at launch, while a person waits: retries end after this many seconds.
_PATIENCE = bigquery.DEFAULT_RETRY.with_timeout(120)
# Seconds without an answer after which a request is sent again.
_TIMEOUT = 60

RUN_COLUMNS = (
    column("run_id", "STRING", "names the run"),
    column("started_at", "TIMESTAMP", "when the command was given"),
    column("finished_at", "TIMESTAMP", "when everything but the publishing was done"),
    column("model", "STRING", "name of the model"),
    column("model_digest", "STRING", "over the model's files and the preprocessing"),
    column("dimension", "INTEGER", "of the vectors"),
    column("listed", "INTEGER", "images: embedded + reused + duplicate + failed + skipped"),
    column("embedded", "INTEGER", "images that went through the model"),
    column("reused", "INTEGER", "images whose bytes an earlier run embedded"),
    column("duplicate", "INTEGER", "images whose bytes another image of this run had"),
    column("failed", "INTEGER", "images without a vector"),
    column("skipped", "INTEGER", "images that an earlier run embedded and that have not changed"),
    column("pruned", "INTEGER", "rows removed, of images that are gone"),
    column("failure_rate", "FLOAT", "failed over listed"),
    column("verdict", "STRING", "what limited the run"),
    column("report", "STRING", "the whole report, JSON"),
)
STAGED_RUN_COLUMNS = (
    *RUN_COLUMNS,
    column("replaces", "TIMESTAMP", "start of the attempt whose row this one replaces", "NULLABLE"),
)


@dataclasses.dataclass(frozen=True)
class Staging:
    """The tables of one attempt at a run, as PROJECT.DATASET.TABLE."""

    embeddings: str
    failures: str
    gone: str
    run: str

    @classmethod
    def of(cls, table: str) -> "Staging":
        """Returns names that no other attempt has."""
        prefix = f"{table}_staging_{secrets.token_hex(6)}"
        return cls(prefix, f"{prefix}_failures", f"{prefix}_gone", f"{prefix}_run")


@dataclasses.dataclass(frozen=True)
class _Layout:
    """The layout of a table that is not a staging table.

    Attributes:
      columns: as BigQuery's REST interface describes them.
      day_of: the column whose day a row is partitioned by.
      clustered_by: the columns that rows are sorted by within a day.
      description: the table's description in BigQuery.
    """

    columns: Sequence[dict[str, str]]
    day_of: str
    clustered_by: tuple[str, ...]
    description: str


_EMBEDDINGS = _Layout(EMBEDDING_COLUMNS, "embedded_at", ("model_digest", "key"), "Vectors of images.")
_FAILURES = _Layout(FAILURE_COLUMNS, "failed_at", ("run_id",), "Images without a vector.")
_RUNS = _Layout(RUN_COLUMNS, "started_at", ("run_id",), "Runs that wrote vectors.")


@functools.cache
def client(project: str) -> bigquery.Client:
    """Returns this process's client; it calls BIGQUERY_EMULATOR_HOST if that is set."""
    return bigquery.Client(project=project)


def client_of(table: str) -> bigquery.Client:
    """Returns the client for a table's own project.

    All statements are sent through this function, so each has a table whose name was checked.

    Raises:
      ValueError: if `table` is not the name of a table.
    """
    return client(table_name.split(table).project)


def prepare(table: str, digest: str) -> Staging:
    """Makes the tables that are missing, checks those that exist, and names staging tables, which `stage` makes.

    A table of an earlier version gets the columns that it lacks, if they may be NULL.

    Args:
      table: PROJECT.DATASET.TABLE.
      digest: of the run's model, which a new view `<table>_latest` shows.

    Raises:
      ValueError: if a table has other columns than expected, or BigQuery refuses. The message says how to fix it.
    """
    staging = Staging.of(table)
    with explained(table):
        bq = client_of(table)
        bq.get_dataset(_dataset(table), retry=_PATIENCE)
        problems = [
            *_ensure(bq, table, _EMBEDDINGS),
            *_ensure(bq, table_name.failures(table), _FAILURES),
            *_ensure(bq, table_name.runs(table), _RUNS),
        ]
        if problems:
            raise ValueError(f"--output_table {table!r} has other columns than expected: {'; '.join(problems)}")
        if not _exists(bq, table_name.latest(table)):
            show(table, digest)
    return staging


def stage(table: str, staging: Staging) -> None:
    """Makes the staging tables of a table, all or none. Raises ValueError if BigQuery refuses."""
    try:
        with explained(table):
            _make_staging(client_of(table), staging)
    except (ValueError, OSError):
        discard(staging)
        raise


def _make_staging(bq: bigquery.Client, staging: Staging) -> None:
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=_STAGING_DAYS)
    for name, columns in (
        (staging.embeddings, EMBEDDING_COLUMNS),
        (staging.failures, FAILURE_COLUMNS),
        (staging.gone, GONE_COLUMNS),
        (staging.run, STAGED_RUN_COLUMNS),
    ):
        table = bigquery.Table(name, _fields(columns))
        table.expires = expires
        table.description = "Rows of a run that is not published yet; the table expires by itself."
        bq.create_table(table, exists_ok=True, retry=_PATIENCE)


@contextlib.contextmanager
def explained(table: str) -> Iterator[None]:
    """Turns the errors of Google's client into a ValueError that says how to fix them."""
    try:
        yield
    except exceptions.NotFound as error:
        dataset = ":".join(_dataset(table).rsplit(".", 1))
        raise ValueError(
            f"--output_table {table!r}: {error.message}; expected an existing dataset: `bq mk --dataset {dataset}`"
        ) from error
    except (exceptions.GoogleAPIError, auth_exceptions.GoogleAuthError) as error:
        raise ValueError(f"--output_table {table!r} cannot be prepared: {error}") from error


def differences(fields: Iterable[bigquery.SchemaField], columns: Sequence[dict[str, str]]) -> list[str]:
    """Returns a phrase for each difference that keeps a table from holding this pipeline's rows.

    Args:
      fields: the table's columns. There may be more than expected, unless they are REQUIRED.
      columns: the expected columns.
    """
    by_name = {field.name.lower(): field for field in fields}
    problems = []
    for expected in _fields(columns):
        field = by_name.get(expected.name)
        if field is None:
            problems.append(f"column {expected.name!r} is missing, expected {_type(expected)}")
        elif _type(field) != _type(expected):
            problems.append(f"column {expected.name!r} is {_type(field)}, expected {_type(expected)}")
    expected_names = {column["name"] for column in columns}
    problems += [
        f"column {field.name!r} is REQUIRED, and this pipeline has no value for it"
        for name, field in by_name.items()
        if field.mode == "REQUIRED" and name not in expected_names
    ]
    return problems


def show(table: str, digest: str) -> None:
    """Lets the view `<table>_latest` show the rows of one model, one for each key.

    Raises:
      ValueError: if `digest` is not a digest.
    """
    if not re.fullmatch("[0-9a-f]+", digest):
        raise ValueError(f"model_digest={digest!r}: expected hex digits")
    bq = client_of(table)
    view = bigquery.Table(table_name.latest(table))
    # A view takes no parameters. The digest is hex digits, and `client_of` has checked the table's name.
    view.view_query = f"SELECT * FROM `{table}` WHERE model_digest = '{digest}'"  # noqa: S608
    view.description = "The vectors of one model, one row a key; --make_latest chooses another model."
    try:
        bq.create_table(view)
    except exceptions.Conflict:
        bq.update_table(view, ["view_query", "description"])


def drop(staging: Staging) -> None:
    """Deletes the staging tables that still exist."""
    for name in dataclasses.astuple(staging):
        client_of(name).delete_table(name, not_found_ok=True)


def discard(staging: Staging) -> None:
    """Deletes the staging tables of a run that fails. Errors are ignored, because the tables expire."""
    with contextlib.suppress(exceptions.GoogleAPIError, auth_exceptions.GoogleAuthError, OSError):
        drop(staging)


def query(table: str, sql: str, **parameters: Any) -> list[bigquery.Row]:
    """Returns the rows of a query.

    Args:
      table: the table that is queried. Its project runs the query.
      sql: has the checked names of tables as text, and all values as parameters.
      parameters: strings or lists of strings, by name.
    """
    return list(client_of(table).query(sql, job_config=_config(parameters), timeout=_TIMEOUT).result())


def now(table: str) -> datetime.datetime:
    """Returns the time by BigQuery's clock. Raises ValueError if BigQuery refuses."""
    with explained(table):
        (row,) = query(table, "SELECT CURRENT_TIMESTAMP() AS now")
    return row["now"]


def run(table: str, script: str) -> None:
    """Runs a script of several statements to its end; raises GoogleAPICallError if one of them fails."""
    client_of(table).query(script, timeout=_TIMEOUT).result()


class Result(NamedTuple):
    """The result of a query. Any worker can read a part of it.

    Attributes:
      project, job, location: of the query.
      total: number of rows.
    """

    project: str
    job: str
    location: str
    total: int


def start(table: str, sql: str, **parameters: Any) -> Result:
    """Runs a query and leaves its rows in BigQuery, which deletes them after a day."""
    job = client_of(table).query(sql, job_config=_config(parameters), timeout=_TIMEOUT)
    return Result(job.project, job.job_id, job.location, job.result(max_results=1).total_rows or 0)


def rows(project: str, job: str, location: str, first: int, count: int) -> Iterable[bigquery.Row]:
    """Yields at most `count` rows of a result, from row number `first` on."""
    query_job: Any = client(project).get_job(job, location=location)
    yield from query_job.result(start_index=first, max_results=count)


def read_report(table: str, run_id: str) -> str | None:
    """Returns the report of a run as JSON, or None if the run or the tables do not exist yet."""
    sql = f"SELECT report FROM `{table_name.runs(table)}` WHERE run_id = @run_id"  # noqa: S608 - `query` checks the name
    try:
        runs = query(table, sql, run_id=run_id)
    except exceptions.NotFound:
        return None
    return runs[0]["report"] if runs else None


def _config(parameters: Mapping[str, Any]) -> bigquery.QueryJobConfig:
    return bigquery.QueryJobConfig(query_parameters=[_parameter(name, value) for name, value in parameters.items()])


def _parameter(name: str, value: Any) -> bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter:
    if isinstance(value, list):
        return bigquery.ArrayQueryParameter(name, "STRING", value)
    return bigquery.ScalarQueryParameter(name, "STRING", value)


def _dataset(table: str) -> str:
    return table.rpartition(".")[0]


def _ensure(bq: bigquery.Client, name: str, layout: _Layout) -> list[str]:
    """Makes a table, or adds the columns that earlier versions did not have, or returns the other differences."""
    table = bigquery.Table(name, _fields(layout.columns))
    table.time_partitioning = bigquery.TimePartitioning(field=layout.day_of)
    table.clustering_fields = list(layout.clustered_by)
    table.description = layout.description
    existing = bq.create_table(table, exists_ok=True, retry=_PATIENCE)
    names = {field.name.lower() for field in existing.schema}
    added = [field for field in table.schema if field.is_nullable and field.name not in names]
    problems = differences([*existing.schema, *added], layout.columns)
    if added and not problems:
        columns = ", ".join(f"ADD COLUMN IF NOT EXISTS {field.name} {field.field_type}" for field in added)
        run(name, f"ALTER TABLE `{name}` {columns}")
    return [f"{problem} (in {name})" for problem in problems]


def _exists(bq: bigquery.Client, name: str) -> bool:
    try:
        bq.get_table(name)
    except exceptions.NotFound:
        return False
    return True


def _fields(columns: Sequence[dict[str, str]]) -> list[bigquery.SchemaField]:
    return [bigquery.SchemaField.from_api_repr(column) for column in columns]


# Types that BigQuery has two names for.
_NAMES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}


def _type(field: bigquery.SchemaField) -> str:
    name = _NAMES.get(field.field_type, field.field_type)
    return f"ARRAY<{name}>" if field.mode == "REPEATED" else name
