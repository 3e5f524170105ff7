"""The definition for Cloud Workflows, run over good and bad nights; its query goes to BigQuery's emulator as it is."""

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from tests.deploy.conftest import NIGHTS, SETTINGS, job_name, run_id
from tests.deploy.workflow_interpreter import Raised, Workflow

DEPLOY = Path(__file__).parents[2] / "deploy" / "workflows"
TEXT = (DEPLOY / "nightly_image_embeddings.yaml").read_text()
NOW = datetime(2026, 11, 21, 2, 0, 7, tzinfo=UTC).timestamp()


class World:
    """What a definition can call: a clock that a sleep moves on, Dataflow's server, BigQuery's emulator."""

    def __init__(self, dataflow, bigquery_address):
        self.now = NOW
        self.logged = []
        self.slept = 0.0
        self._dataflow = dataflow
        self._bigquery = bigquery_address

    def workflow(self, text=TEXT):
        functions = {
            "default": lambda value, otherwise: otherwise if value is None else value,
            "double": float,
            "int": int,
            "len": len,
            "map.get": lambda mapping, name: mapping.get(name),
            "map.merge": lambda first, second: first | second,
            "string": str,
            "sys.get_env": {"GOOGLE_CLOUD_PROJECT_ID": "env-project"}.__getitem__,
            "sys.now": lambda: self.now,
            "text.find_all_regex": lambda text, pattern: [
                {"index": match.start(), "match": match[0]} for match in re.finditer(pattern, text)
            ],
            "text.match_regex": lambda text, pattern: re.search(pattern, text) is not None,
            "text.replace_all": str.replace,
            "text.replace_all_regex": lambda text, pattern, new: re.sub(pattern, new, text),
            "text.substring": lambda text, start, end: text[start:end],
            "text.to_lower": str.lower,
            "time.format": lambda seconds: datetime.fromtimestamp(seconds, UTC).isoformat(),
        }
        calls = {
            "sys.sleep": self._sleep,
            "sys.log": self.logged.append,
            "googleapis.dataflow.v1b3.projects.locations.flexTemplates.launch": self._launch,
            "googleapis.dataflow.v1b3.projects.locations.jobs.get": self._get,
            "googleapis.bigquery.v2.jobs.query": self._query,
        }
        return Workflow(text, functions, calls)

    def _sleep(self, args):
        self.now += args["seconds"]
        self.slept += args["seconds"]

    def _launch(self, args):
        assert set(args) == {"projectId", "location", "body"}
        return self._http(
            f"{self._dataflow.address}/v1b3/projects/{args['projectId']}/locations/{args['location']}"
            "/flexTemplates:launch",
            args["body"],
        )

    def _get(self, args):
        assert set(args) == {"projectId", "location", "jobId"}
        return self._http(
            f"{self._dataflow.address}/v1b3/projects/{args['projectId']}/locations/{args['location']}"
            f"/jobs/{args['jobId']}"
        )

    def _query(self, args):
        assert set(args) == {"projectId", "body"}
        # The emulator does not look at them.
        assert (args["body"]["useLegacySql"], args["body"]["parameterMode"]) == (False, "NAMED")
        return self._http(f"{self._bigquery}/bigquery/v2/projects/{args['projectId']}/queries", args["body"])

    @staticmethod
    def _http(url, body=None):
        answer = requests.request("GET" if body is None else "POST", url, json=body, timeout=30)
        if not answer.ok:
            raise Raised({"code": answer.status_code, "body": answer.text})
        return answer.json()


@pytest.fixture
def world(dataflow, bigquery_runs):
    return World(dataflow, bigquery_runs["BIGQUERY_EMULATOR_HOST"])


def test_a_good_night_launches_the_template_and_returns_the_verdict(world, dataflow, probe):
    verdict = NIGHTS["good"][0][2]
    argument = SETTINGS | {"run_id": run_id("good"), "flags": {"prune": "true"}, "max_workers": 4}
    assert world.workflow().run(argument) == {"run_id": run_id("good"), "verdict": verdict}
    assert world.logged == [{"severity": "NOTICE", "text": f"run {run_id('good')}, {verdict}"}]
    request = dataflow.requests[-1]
    assert request == {
        "projectId": "my-project",
        "location": "europe-west1",
        "launchParameter": {
            "jobName": "embed-images-nightly-20261121t000000",
            "containerSpecGcsPath": "gs://my-temp/templates/embed-images.json",
            "parameters": {
                "input": "gs://my-images/**",
                "output_table": "test:images.embeddings",
                "model": "efficientnet_lite0",
                "prune": "true",
                "run_id": "nightly-20261121T000000",
            },
            "environment": {
                "tempLocation": "gs://my-temp/embed-images",
                "stagingLocation": "gs://my-temp/embed-images",
                "serviceAccountEmail": "embed-worker@my-project.iam.gserviceaccount.com",
                "maxWorkers": 4,
            },
        },
    }
    understood, _ = probe("parse", [request])
    assert understood == [request]


@pytest.mark.parametrize(
    ("night", "message"),
    [
        ("missing", "test.images.embeddings_runs, expected one row of run {}, found 0"),
        ("twice", "test.images.embeddings_runs, expected one row of run {}, found 2"),
        ("sums", "run {}, expected 1000 listed images, found 999 accounted for"),
        ("failures", "run {}, expected a failure rate of at most 0.01, found 0.023, 23 of 1000 images"),
        ("unknown", "run {}, expected null listed images, found nothing accounted for"),
    ],
)
def test_a_bad_row_is_raised_in_one_sentence(world, night, message):
    with pytest.raises(Raised) as raised:
        world.workflow().run(SETTINGS | {"run_id": run_id(night)})
    assert raised.value.value == message.format(run_id(night))


def test_the_run_is_that_of_the_day_however_often_it_is_executed(world, dataflow):
    for seconds in (0, 3 * 3600):
        world.now = NOW + seconds
        with pytest.raises(Raised, match="expected one row of run nightly-20261121, found 0"):
            world.workflow().run({name: value for name, value in SETTINGS.items() if name != "project"})
    first, second = dataflow.requests[-2:]
    assert first == second
    assert first["projectId"] == "env-project"
    assert first["launchParameter"]["jobName"] == "embed-images-nightly-20261121"


def test_a_job_that_did_not_end_well_is_raised(world):
    with pytest.raises(Raised, match="expected JOB_STATE_DONE, found JOB_STATE_CANCELLED"):
        world.workflow().run(SETTINGS | {"run_id": run_id("job_failed")})


def test_an_active_job_of_the_same_run_is_waited_for(world, dataflow):
    with pytest.raises(Raised, match="expected one row of run .*, found 0"):
        world.workflow().run(SETTINGS | {"run_id": run_id("still_active")})
    assert dataflow.requests[-1]["launchParameter"]["jobName"] == job_name("still_active")
    assert world.slept == 60 + 120 + 3 * 60  # two refusals, then three looks at the job


def test_waiting_has_an_end(world, dataflow):
    name = "embed-images-nightly-endless"
    dataflow.ends[name] = "JOB_STATE_RUNNING"
    started = time.monotonic()
    with pytest.raises(Raised, match="expected its end within 2 hours, found JOB_STATE_RUNNING"):
        world.workflow().run(SETTINGS | {"run_id": "nightly-endless", "max_hours": 2})
    assert 2 * 3600 < world.slept <= 2 * 3600 + 120
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "name", ["region", "template", "worker_service_account", "temp_location", "input", "output_table"]
)
def test_a_missing_argument_is_named_before_anything_is_launched(world, dataflow, name):
    launched = len(dataflow.requests)
    with pytest.raises(Raised, match=f"the argument {name} is missing"):
        world.workflow().run({key: value for key, value in SETTINGS.items() if key != name})
    assert len(dataflow.requests) == launched


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output_table": "p:d.t` UNION ALL SELECT"}, "expected PROJECT:DATASET.TABLE"),
        ({"run_id": "last night"}, "expected at most 100 letters"),
        ({"run_id": "n" * 101}, "expected at most 100 letters"),
    ],
)
def test_what_could_not_be_a_parameter_is_checked(world, settings, message):
    with pytest.raises(Raised, match=message):
        world.workflow().run(SETTINGS | settings)


@pytest.mark.parametrize(
    ("table", "runs_table"),
    [
        ("project:dataset.table", "project.dataset.table_runs"),
        ("project.dataset.table-1", "project.dataset.table-1_runs"),
        ("example.com:project:dataset.table", "example.com:project.dataset.table_runs"),
    ],
)
def test_the_runs_are_asked_for_under_the_tables_name_in_sql(world, monkeypatch, table, runs_table):
    queries = []

    def no_row(args):
        queries.append(args["body"]["query"])
        return {"jobComplete": True, "totalRows": "0"}

    monkeypatch.setattr(world, "_query", no_row)
    with pytest.raises(Raised, match=f"^{re.escape(runs_table)}, expected one row"):
        world.workflow().run(SETTINGS | {"output_table": table})
    assert f"FROM `{runs_table}` WHERE" in queries[0]


def test_the_schedulers_body_carries_an_argument_that_launches(world, dataflow):
    body = json.loads((DEPLOY / "scheduler.json").read_text())
    assert set(body) == {"argument"}
    argument = json.loads(body["argument"])
    with pytest.raises(Raised, match="expected one row of run nightly-20261121, found 0"):
        world.workflow().run(argument)
    parameters = dataflow.requests[-1]["launchParameter"]["parameters"]
    assert parameters["input"] == argument["input"]
    assert parameters["prune"] == "true"


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("next: wait", "next: wiat", "no step 'wiat'"),
        ("call: sys.sleep", "call: sys.slepe", "nothing to call"),
        ("text.to_lower(", "text.lower(", "no function"),
        ("- say:", "- judge:", "steps of one name"),
        ("${int(answer.totalRows) != 1}", "${int(answer.totalRows != 1}", "never closed"),
        ("        retry:", "        retries:", "unknown"),
    ],
)
def test_a_slip_is_found_when_the_definition_is_read(world, right, wrong, message):
    assert right in TEXT
    with pytest.raises((AssertionError, SyntaxError), match=message):
        world.workflow(TEXT.replace(right, wrong))
