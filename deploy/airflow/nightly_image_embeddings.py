"""Every night: launch the Flex Template under the run's logical date, then let the run's own row say how it went.

    plan >> embed >> judge

`plan` reads the Airflow Variable `image_embeddings` (JSON), checks it and makes the launch request; `embed` launches
and waits; `judge` reads the run's row from `<output_table>_runs` and fails unless the row vouches for every image.
One run over other settings: trigger with the configuration `{"settings": {"input": "gs://bucket/late/**"}}`.

A retried or cleared task is the same run: run_id and job name come from the logical date, Dataflow refuses a second
active job of one name, and the job itself does nothing where its run is complete. For Airflow 3.1 and later;
docs/scheduling.md has the commands that set it up.
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
# Of a table's name; a copy of transforms/table_name.py, which Airflow's environment does not have.
TABLE = r"[a-z][a-z0-9.:-]*[:.]\w+\.[\w-]+"
# What separates the project in it from the dataset: a dot in SQL.
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
# `flags`: further flags of the command, without their dashes, as in {"batch_size": 64, "reprocess": true}.
DEFAULTS: dict[str, Any] = {
    "model": "efficientnet_lite0",
    "prune": False,
    "max_workers": 10,
    "max_failure_rate": 0.01,
    "flags": {},
}
COUNTS = ("embedded", "reused", "duplicate", "failed", "skipped")


def checked(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings with their defaults.

    Raises:
      ValueError: naming all that is wrong, and what was expected.
    """
    settings = DEFAULTS | dict(chosen)
    wrong = [f"{name!r} is unknown" for name in chosen if name not in REQUIRED and name not in DEFAULTS]
    for name, (pattern, expected) in REQUIRED.items():
        value = settings.get(name)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            wrong.append(f"{name}={value!r}: expected {expected}")
    for name, default in DEFAULTS.items():
        # JSON has 1 for 1.0; and a bool would pass for an int.
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
            # One active job of a name: a second launch of the same run is refused with 409 for as long as one works.
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
    """Returns the verdict of a run that went well.

    Raises:
      ValueError: in one sentence, what was expected of the run's row and what was found.
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
    """Returns parameters as a template takes them: all are text, and what is off is left out."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in flags.items()
        if value is not False
    }


@dag(
    dag_id="nightly_image_embeddings",
    schedule="0 2 * * *",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    # The table follows the bucket as it is now: a night that was missed is made up for by the next.
    catchup=False,
    max_active_runs=1,
    params={"settings": Param({}, type="object", description=f"for this run, over the Variable {VARIABLE}")},
    tags=["embeddings"],
    doc_md=__doc__,
)
def nightly_image_embeddings() -> None:
    """The DAG."""

    @task(multiple_outputs=True)
    def plan() -> dict[str, Any]:
        context = get_current_context()
        run = context["dag_run"]
        # A run that was triggered by hand need not have a logical date.
        when = (run.logical_date or run.run_after).astimezone(datetime.UTC)
        run_id = f"nightly-{when:%Y%m%dT%H%M%S}"
        variable = Variable.get(VARIABLE, default={}, deserialize_json=True)
        try:
            settings = checked({**variable, **context["params"]["settings"]})
        except ValueError as error:
            raise AirflowFailException(str(error)) from None
        return settings | {"run_id": run_id, "body": launch_body(settings, run_id)}

    planned = plan()
    # Not deferrable: in provider 19.5 its trigger never notices a cancelled job, and Airflow 3.1 enforces no
    # execution_timeout on a task that is deferred.
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
        # A table's name cannot be a parameter; this one has passed `checked`.
        query = f"SELECT listed, {', '.join(COUNTS)}, failure_rate, verdict FROM `{table}` WHERE run_id = @run_id"  # noqa: S608
        wanted = bigquery.ScalarQueryParameter("run_id", "STRING", settings["run_id"])
        rows = list(client.query_and_wait(query, job_config=bigquery.QueryJobConfig(query_parameters=[wanted])))
        try:
            said = judgement(rows, settings["run_id"], table, settings["max_failure_rate"])
        except ValueError as error:
            raise AirflowFailException(str(error)) from None  # asking again would find the same
        logging.getLogger(__name__).info("run %s: %s", settings["run_id"], said)
        return said

    embed >> judge(planned)


nightly_image_embeddings()
