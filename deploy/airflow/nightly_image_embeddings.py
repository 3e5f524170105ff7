"""Launches the Flex Template every night under the run's logical date, and judges the run by its row in BigQuery.

    plan >> embed >> judge

`plan` reads the Airflow Variable `image_embeddings` (JSON), checks it and makes the launch request. `embed` launches
the job and waits for it. `judge` reads the run's row from `<output_table>_runs`, and fails unless the row accounts for
every image. To run with other settings once, trigger the DAG with a configuration such as
`{"settings": {"input": "gs://bucket/late/**"}}`.

A retried or cleared task continues the same run, because run_id and job name come from the logical date. Dataflow
refuses a second active job of the same name. The job itself does nothing if its run is complete.

This DAG needs Airflow 3.1 or later. docs/scheduling.md has the commands that set it up.
"""

import datetime
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.exceptions import AirflowFailException
from airflow.providers.google.cloud.hooks.bigquery import BigQueryHook
from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from airflow.sdk import Param, Variable, dag, get_current_context, task
from google.cloud import bigquery

VARIABLE = "image_embeddings"
BUCKET_PATH = r"gs://[^/]+/.+"
# The pattern of a table's name: a copy from transforms/elements/table_name.py. Airflow's environment lacks that.
TABLE = r"[a-z][a-z0-9.:-]*[:.]\w+\.[\w-]+"
# The separator between project and dataset in such a name. SQL takes only a dot.
AFTER_PROJECT = r"[:.](?=\w+\.[\w-]+$)"
REQUIRED = {
    "project": (r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "the project that Dataflow runs in"),
    "region": (r"[a-z]+-[a-z]+[0-9]+", "a region, as in europe-west1"),
    "template": (BUCKET_PATH, "the gs:// path of the Flex Template's JSON"),
    "worker_service_account": (r"[^@\s]+@[^@\s]+\.gserviceaccount\.com", "the e-mail address of a service account"),
    "temp_location": (BUCKET_PATH, "a gs:// path for temporary files"),
    "input": (r"gs://[^/]+(/.*)?", "a gs:// pattern of images, as in gs://bucket/photos/**"),
    "output_table": (TABLE, "PROJECT:DATASET.TABLE"),
}
# `flags` has further flags of the command, without dashes, as in {"batch_size": 64, "reprocess": true}.
DEFAULTS: dict[str, Any] = {
    "model": "efficientnet_lite0",
    "prune": False,
    "max_workers": 10,
    "max_failure_rate": 0.01,
    "flags": {},
}
COUNTS = ("embedded", "reused", "duplicate", "failed", "skipped")


def complete_settings(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the defaults with these settings in place of them.

    Args:
      overrides: the required settings, and those that differ from DEFAULTS.

    Raises:
      ValueError: if settings are wrong; the message lists all of them, each with the expected value.
    """
    settings = DEFAULTS | dict(overrides)
    wrong = [f"{name!r} is unknown" for name in overrides if name not in REQUIRED and name not in DEFAULTS]
    for name, (pattern, expected) in REQUIRED.items():
        value = settings.get(name)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            wrong.append(f"{name}={value!r}: expected {expected}")
    for name, default in DEFAULTS.items():
        # JSON may have 1 in place of 1.0. A bool is an int to isinstance.
        allowed = (float, int) if isinstance(default, float) else (type(default),)
        if type(settings[name]) not in allowed:
            wrong.append(f"{name}={settings[name]!r}: expected {type(default).__name__}, as in {default!r}")
    if wrong:
        raise ValueError(f"the Airflow Variable {VARIABLE!r} or the trigger's settings: " + "; ".join(wrong))
    if not 0 <= settings["max_failure_rate"] <= 1:
        raise ValueError(f"max_failure_rate={settings['max_failure_rate']!r}: expected a number from 0 to 1")
    return settings


def launch_body(settings: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """Returns the body of projects.locations.flexTemplates.launch."""
    flags = {name: settings[name] for name in ("input", "output_table", "model", "prune")}
    return {
        "launchParameter": {
            # While a job of this name is active, Dataflow refuses a second launch of the same run with 409.
            "jobName": re.sub(r"[^a-z0-9]+", "-", f"embed-images-{run_id}".lower()),
            "containerSpecGcsPath": settings["template"],
            "parameters": _texts(flags | settings["flags"] | {"run_id": run_id}),
            "environment": {
                "tempLocation": settings["temp_location"],
                "stagingLocation": settings["temp_location"],
                "serviceAccountEmail": settings["worker_service_account"],
                "maxWorkers": settings["max_workers"],
            },
        }
    }


def judgement(rows: Sequence[Mapping[str, Any]], run_id: str, table: str, max_failure_rate: float) -> str:
    """Returns the verdict of a run that accounts for every image.

    Args:
      rows: the rows of the run in `table`.
      run_id, table: for the messages; `table` is the table of runs.
      max_failure_rate: from 0 to 1.

    Raises:
      ValueError: if the run does not pass; the message is one sentence with the expected and the actual value.
    """
    if len(rows) != 1:
        raise ValueError(
            f"{table}: expected one row with run_id={run_id!r}, found {len(rows)}: the run is not complete"
        )
    (row,) = rows
    if row["listed"] is None or row["failure_rate"] is None:
        raise ValueError(f"run {run_id!r}: expected a count of listed images, found none")
    parts = [row[name] or 0 for name in COUNTS]
    if row["listed"] != sum(parts):
        summed = " + ".join(f"{count} {name}" for count, name in zip(parts, COUNTS, strict=True))
        raise ValueError(f"run {run_id!r}: expected {row['listed']} listed images, found {summed} = {sum(parts)}")
    if row["failure_rate"] > max_failure_rate:
        raise ValueError(
            f"run {run_id!r}: expected a failure rate of at most {max_failure_rate:.2%}, "
            f"found {row['failure_rate']:.2%}: {row['failed']} of {row['listed']} images failed, "
            f"listed in {table.removesuffix('_runs')}_failures"
        )
    return row["verdict"]


def _texts(flags: Mapping[str, Any]) -> dict[str, str]:
    """Returns flags as parameters of a template: every value as text, without the switches that are off."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in flags.items()
        if value is not False
    }


@dag(
    dag_id="nightly_image_embeddings",
    schedule="0 2 * * *",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    # Each run brings the table up to date with the bucket, so the next night makes up for a missed one.
    catchup=False,
    max_active_runs=1,
    params={"settings": Param({}, type="object", description=f"for this run, instead of those in {VARIABLE}")},
    tags=["embeddings"],
    doc_md=__doc__,
)
def nightly_image_embeddings() -> None:
    """The DAG."""

    @task(multiple_outputs=True)
    def plan() -> dict[str, Any]:
        context = get_current_context()
        run = context["dag_run"]
        # A run that was triggered by hand may have no logical date.
        when = (run.logical_date or run.run_after).astimezone(datetime.UTC)
        run_id = f"nightly-{when:%Y%m%dT%H%M%S}"
        variable = Variable.get(VARIABLE, default={}, deserialize_json=True)
        try:
            settings = complete_settings({**variable, **context["params"]["settings"]})
        except ValueError as error:
            raise AirflowFailException(str(error)) from None
        return settings | {"run_id": run_id, "body": launch_body(settings, run_id)}

    planned = plan()
    # Not deferrable, for two reasons: the trigger of provider 19.5 never notices a cancelled job, and Airflow 3.1 does
    # not enforce execution_timeout on a deferred task.
    embed = DataflowStartFlexTemplateOperator(
        task_id="embed",
        project_id=planned["project"],
        location=planned["region"],
        body=planned["body"],
        append_job_name=False,
        wait_until_finished=True,
        poll_sleep=60,
        execution_timeout=datetime.timedelta(hours=6),
        retries=4,
        retry_delay=datetime.timedelta(minutes=10),
        retry_exponential_backoff=True,
        max_retry_delay=datetime.timedelta(hours=1),
    )

    @task(retries=2)
    def judge(settings: dict[str, Any]) -> str:
        table = re.sub(AFTER_PROJECT, ".", settings["output_table"]) + "_runs"
        client = BigQueryHook().get_client(project_id=settings["project"])
        # A table's name cannot be a parameter. `complete_settings` has checked this one.
        query = f"SELECT listed, {', '.join(COUNTS)}, failure_rate, verdict FROM `{table}` WHERE run_id = @run_id"  # noqa: S608
        parameter = bigquery.ScalarQueryParameter("run_id", "STRING", settings["run_id"])
        rows = list(client.query_and_wait(query, job_config=bigquery.QueryJobConfig(query_parameters=[parameter])))
        try:
            verdict = judgement(rows, settings["run_id"], table, settings["max_failure_rate"])
        except ValueError as error:
            raise AirflowFailException(str(error)) from None  # a retry would get the same row
        logging.getLogger(__name__).info("run %s: %s", settings["run_id"], verdict)
        return verdict

    embed >> judge(planned)


nightly_image_embeddings()
