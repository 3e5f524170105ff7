"""The tables: what they are called, what is in them, and whether they are fit to take a run's rows.

`<table>` holds one row for a key and a model; `<table>_failures`, `<table>_runs` and the view `<table>_latest` stand
beside it. A run writes into staging tables of its own, which are gone when it is published, or a week later.
"""

import contextlib
import dataclasses
import datetime
import functools
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.cloud import bigquery

from transforms.write_bigquery import EMBEDDING_COLUMNS, FAILURE_COLUMNS, GONE_COLUMNS, column

_STAGING_DAYS = 7
# While a person waits for the launch, in seconds.
_PATIENCE = bigquery.DEFAULT_RETRY.with_timeout(120)
# A server that takes a request and says nothing is asked again, after so many seconds.
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


def failures_table(table: str) -> str:
    return f"{table}_failures"


def runs_table(table: str) -> str:
    return f"{table}_runs"


def latest_view(table: str) -> str:
    return f"{table}_latest"


@functools.cache
def client(project: str) -> bigquery.Client:
    """Returns this process's client; BIGQUERY_EMULATOR_HOST is where it calls, if set."""
    return bigquery.Client(project=project)


def client_of(table: str) -> bigquery.Client:
    """Returns the client for a table's own project."""
    return client(table.rsplit(".", 2)[0])


def prepare(table: str, digest: str) -> Staging:
    """Makes what is missing of a table and those beside it, checks what is there, and makes the staging tables.

    Args:
      table: PROJECT.DATASET.TABLE.
      digest: of the run's model, which a new view `<table>_latest` shows.

    Raises:
      ValueError: with what was expected, and how to come by it.
    """
    staging = Staging.of(table)
    with explained(table):
        bq = client_of(table)
        bq.get_dataset(table.rsplit(".", 1)[0], retry=_PATIENCE)
        problems = [
            *_ensure(bq, table, EMBEDDING_COLUMNS, "embedded_at", ["model_digest", "key"], "Vectors of images."),
            *_ensure(bq, failures_table(table), FAILURE_COLUMNS, "failed_at", ["run_id"], "Images without a vector."),
            *_ensure(bq, runs_table(table), RUN_COLUMNS, "started_at", ["run_id"], "Runs that wrote vectors."),
        ]
        if problems:
            raise ValueError(f"--output_table {table!r} has other columns than expected: {'; '.join(problems)}")
        if not _exists(bq, latest_view(table)):
            show(table, digest)
        expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=_STAGING_DAYS)
        for name, columns in (
            (staging.embeddings, EMBEDDING_COLUMNS),
            (staging.failures, FAILURE_COLUMNS),
            (staging.gone, GONE_COLUMNS),
            (staging.run, RUN_COLUMNS),
        ):
            made = bigquery.Table(name, _fields(columns))
            made.expires = expires
            made.description = "Rows of a run that is not published yet; goes by itself."
            bq.create_table(made, exists_ok=True, retry=_PATIENCE)
    return staging


@contextlib.contextmanager
def explained(table: str) -> Iterator[None]:
    """Turns what Google's client raises into a ValueError that says what to do."""
    try:
        yield
    except exceptions.NotFound as error:
        dataset = ":".join(table.rsplit(".", 2)[:2])
        raise ValueError(
            f"--output_table {table!r}: {error.message}; expected a dataset that is there: `bq mk --dataset {dataset}`"
        ) from error
    except (exceptions.GoogleAPIError, auth_exceptions.GoogleAuthError) as error:
        raise ValueError(f"--output_table {table!r} cannot be prepared: {error}") from error


def differences(found: Iterable[bigquery.SchemaField], columns: Sequence[dict[str, str]]) -> list[str]:
    """Returns what a table's columns lack to hold ours, a phrase each; further columns of its own are no matter."""
    there = {field.name.lower(): field for field in found}
    problems = []
    for wanted in _fields(columns):
        field = there.get(wanted.name)
        if field is None:
            problems.append(f"column {wanted.name!r} is missing, expected {_type(wanted)}")
        elif _type(field) != _type(wanted):
            problems.append(f"column {wanted.name!r} is {_type(field)}, expected {_type(wanted)}")
    ours = {wanted["name"] for wanted in columns}
    problems += [
        f"column {field.name!r} is REQUIRED, and this project has nothing for it"
        for name, field in there.items()
        if field.mode == "REQUIRED" and name not in ours
    ]
    return problems


def show(table: str, digest: str) -> None:
    """Lets the view `<table>_latest` show the rows of one model: one a key."""
    if not digest.isalnum():
        raise ValueError(f"model_digest={digest!r}: expected hex digits")
    bq = client_of(table)
    view = bigquery.Table(latest_view(table))
    # A view takes no parameters; the digest is hex digits, the table's name was checked when the flag was read.
    view.view_query = f"SELECT * FROM `{table}` WHERE model_digest = '{digest}'"  # noqa: S608
    view.description = "The vectors of one model, one row a key; --make_latest chooses another model."
    try:
        bq.create_table(view)
    except exceptions.Conflict:
        bq.update_table(view, ["view_query", "description"])


def drop(staging: Staging) -> None:
    """Deletes the staging tables; those that are gone already are fine."""
    for name in dataclasses.astuple(staging):
        client_of(name).delete_table(name, not_found_ok=True)


def query(table: str, sql: str, **parameters: Any) -> list[bigquery.Row]:
    """Returns the rows of a query, whose parameters are strings or lists of strings."""
    return list(client_of(table).query(sql, job_config=_config(parameters), timeout=_TIMEOUT).result())


def run(table: str, script: str) -> None:
    """Runs a script of several statements to its end; raises GoogleAPICallError where one of them fails."""
    client_of(table).query(script, timeout=_TIMEOUT).result()


class Result(NamedTuple):
    """A query's result that any worker can read a part of."""

    project: str
    job: str
    location: str
    total: int


def start(table: str, sql: str, **parameters: Any) -> Result:
    """Runs a query and leaves its rows where they are, for a day."""
    job = client_of(table).query(sql, job_config=_config(parameters), timeout=_TIMEOUT)
    return Result(job.project, job.job_id, job.location, job.result(max_results=1).total_rows or 0)


def rows(project: str, job: str, location: str, first: int, count: int) -> Iterable[bigquery.Row]:
    """Yields the rows of a result from the `first` one on, `count` at most."""
    found: Any = client(project).get_job(job, location=location)
    yield from found.result(start_index=first, max_results=count)


def read_report(table: str, run_id: str) -> str | None:
    """Returns the report of a run as JSON, None where there is none (yet)."""
    sql = f"SELECT report FROM `{runs_table(table)}` WHERE run_id = @run_id"  # noqa: S608 - the name was checked
    try:
        found = query(table, sql, run_id=run_id)
    except exceptions.NotFound:
        return None
    return found[0]["report"] if found else None


def _config(parameters: Mapping[str, Any]) -> bigquery.QueryJobConfig:
    return bigquery.QueryJobConfig(query_parameters=[_parameter(name, value) for name, value in parameters.items()])


def _parameter(name: str, value: Any) -> bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter:
    if isinstance(value, list):
        return bigquery.ArrayQueryParameter(name, "STRING", value)
    return bigquery.ScalarQueryParameter(name, "STRING", value)


def _ensure(
    bq: bigquery.Client,
    name: str,
    columns: Sequence[dict[str, str]],
    day_of: str,
    clustered_by: list[str],
    description: str,
) -> list[str]:
    made = bigquery.Table(name, _fields(columns))
    made.time_partitioning = bigquery.TimePartitioning(field=day_of)
    made.clustering_fields = clustered_by
    made.description = description
    there = bq.create_table(made, exists_ok=True, retry=_PATIENCE)
    return [f"{problem} (in {name})" for problem in differences(there.schema, columns)]


def _exists(bq: bigquery.Client, name: str) -> bool:
    try:
        bq.get_table(name)
    except exceptions.NotFound:
        return False
    return True


def _fields(columns: Sequence[dict[str, str]]) -> list[bigquery.SchemaField]:
    return [bigquery.SchemaField.from_api_repr(column) for column in columns]


_NAMES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}


def _type(field: bigquery.SchemaField) -> str:
    name = _NAMES.get(field.field_type, field.field_type)
    return f"ARRAY<{name}>" if field.mode == "REPEATED" else name
