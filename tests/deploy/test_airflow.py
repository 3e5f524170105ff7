"""The DAG in a real Airflow: loaded as a scheduler does, and run over an hour's worth of good and bad nights.

Dataflow is a server of two methods, BigQuery its emulator; hooks, operators and clients are the released ones.
"""

import json
import re
import string
from pathlib import Path

import pytest

from tests.deploy.airflow_probe import SCENARIO
from tests.deploy.conftest import NIGHTS, SETTINGS, hour, job_name, run_id

DOCUMENT = (Path(__file__).parents[2] / "docs" / "scheduling.md").read_text()
NOON = "2026-11-22T12:30:00+00:00"
NEW_YEAR = "2026-12-31T02:00:00+00:00"
BY_HAND = {
    "input": "gs://my-images/late/**",
    "prune": True,
    "max_failure_rate": 1,
    "flags": {"batch_size": 64, "reprocess": True},
}


@pytest.fixture(scope="module")
def output(probe, dataflow):
    """The output of one process for all tests, because starting Airflow takes longer than everything else."""
    scenarios = {night: {"date": hour(night), "settings": {}} for night in ("good", "job_failed", "still_active")} | {
        "by_hand": {"date": NOON, "by_hand": True, "settings": BY_HAND},
        "wrong": {
            "date": NEW_YEAR,
            "settings": {"input": "/photos", "prune": "yes", "max_workers": True, "modle": "inception_v2"},
        },
    }
    common = {"dataflow": dataflow.address, "by_hand": False}
    output, printed = probe(
        "dag",
        {
            "scenarios": {name: common | scenario for name, scenario in scenarios.items()},
            "settings": SETTINGS,
            "judge": [run_id(night) for night in NIGHTS],
        },
    )
    assert output["errors"] == {}
    for text in printed.split(SCENARIO)[1:]:
        output["runs"][text.split()[0]]["log"] = text
    return output


@pytest.fixture(scope="module")
def runs(output):
    return output["runs"]


def test_the_dag_loads_with_its_tasks_in_order(output):
    dag = output["dag"]
    assert dag["dag_id"] == "nightly_image_embeddings"
    assert (dag["schedule"], dag["catchup"], dag["max_active_runs"]) == ("0 2 * * *", False, 1)
    assert {name: task["upstream"] for name, task in dag["tasks"].items()} == {
        "plan": [],
        "embed": ["plan"],
        "judge": ["embed", "plan"],
    }
    assert dag["tasks"]["embed"]["operator"] == "DataflowStartFlexTemplateOperator"


def test_the_documented_settings_are_the_dags(output):
    """The Variable in the documents, with the shell's variables filled in, and the table below it."""
    (variable,) = re.findall(r"<<JSON\n(.*?)\nJSON", DOCUMENT, re.DOTALL)
    shell = {"PROJECT": "my-project", "REGION": "europe-west1", "TEMP": "my-temp", "IMAGES": "my-images"}
    shell |= {"WORKER": SETTINGS["worker_service_account"], "DATASET": "images"}
    assert json.loads(string.Template(variable).substitute(shell)) == SETTINGS | {
        "output_table": "my-project:images.embeddings",
        "prune": True,
    }
    table = DOCUMENT[DOCUMENT.index("| setting |") :].split("\n\n")[0]
    documented = [name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(documented) == sorted(output["settings"])


def test_a_retry_is_the_same_job_and_bounded(output):
    embed, judge = output["dag"]["tasks"]["embed"], output["dag"]["tasks"]["judge"]
    assert embed["own_job_name"]  # else the operator appends a random tail, and a retry would start a second job
    assert embed["retries"] == 4
    assert embed["hours"] == 6
    assert judge["trigger_rule"] == "all_success"


def test_a_good_night_launches_the_template_and_returns_the_verdict(runs, dataflow):
    run = runs["good"]
    assert run["tasks"] == {"plan": "success", "embed": "success", "judge": "success"}, run["log"]
    assert run["state"] == "success"
    assert run["returned"] == NIGHTS["good"][0][2]
    assert f"run {run_id('good')}: {NIGHTS['good'][0][2]}" in run["log"]
    (request,) = [r for r in dataflow.requests if r["launchParameter"]["jobName"] == job_name("good")]
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
                "run_id": "nightly-20261121T000000",
            },
            "environment": {
                "tempLocation": "gs://my-temp/embed-images",
                "stagingLocation": "gs://my-temp/embed-images",
                "serviceAccountEmail": "embed-worker@my-project.iam.gserviceaccount.com",
                "maxWorkers": 10,
            },
        },
    }


def test_a_run_by_hand_takes_its_settings_and_the_time_it_was_triggered(runs, dataflow):
    (request,) = [r for r in dataflow.requests if "20261122t123000" in r["launchParameter"]["jobName"]]
    assert request["launchParameter"]["parameters"] == {
        "input": "gs://my-images/late/**",
        "output_table": SETTINGS["output_table"],
        "model": "efficientnet_lite0",
        "prune": "true",
        "batch_size": "64",
        "reprocess": "true",
        "run_id": "nightly-20261122T123000",
    }


def test_every_launch_request_is_one_that_dataflow_knows(runs, dataflow, probe):
    assert len(dataflow.requests) == 3  # good, job_failed, by_hand
    understood, _ = probe("parse", dataflow.requests)
    assert understood == dataflow.requests


def test_a_good_row_is_judged_by_its_verdict(output):
    assert output["judged"][run_id("good")] == NIGHTS["good"][0][2]


@pytest.mark.parametrize(
    ("night", "message"),
    [
        ("missing", "expected one row with run_id='{}', found 0: the run is not complete"),
        ("twice", "expected one row with run_id='{}', found 2: the run is not complete"),
        (
            "sums",
            "run '{}': expected 1000 listed images, "
            "found 40 embedded + 5 reused + 2 duplicate + 3 failed + 949 skipped = 999",
        ),
        (
            "failures",
            "run '{}': expected a failure rate of at most 1.00%, found 2.30%: "
            "23 of 1000 images failed, listed in test.images.embeddings_failures",
        ),
        ("unknown", "run '{}': expected a count of listed images, found none"),
    ],
)
def test_a_bad_row_fails_the_judgement_in_one_sentence(output, night, message):
    judged = output["judged"][run_id(night)]
    assert judged.startswith("failed: ")
    assert judged.endswith(message.format(run_id(night)))


def test_a_bad_row_fails_the_run(runs):
    run = runs["by_hand"]
    assert run["tasks"] == {"plan": "success", "embed": "success", "judge": "failed"}, run["log"]
    assert run["state"] == "failed"
    message = "test.images.embeddings_runs: expected one row with run_id='nightly-20261122T123000', found 0"
    assert message in run["log"]


@pytest.mark.parametrize(
    ("night", "message"),
    [
        ("job_failed", "unexpected terminal state: JOB_STATE_CANCELLED"),
        ("still_active", "There is already an active job named"),
    ],
)
def test_a_job_that_is_not_done_fails_before_any_judgement(runs, night, message):
    run = runs[night]
    assert run["tasks"] == {"plan": "success", "embed": "failed", "judge": "upstream_failed"}, run["log"]
    assert message in run["log"]


def test_wrong_settings_are_all_named_before_anything_is_launched(runs, dataflow):
    run = runs["wrong"]
    assert run["tasks"] == {"plan": "failed", "embed": "upstream_failed", "judge": "upstream_failed"}
    assert (
        "the Airflow Variable 'image_embeddings' or the trigger's settings: 'modle' is unknown; "
        "input='/photos': expected a gs:// pattern of images, as in gs://bucket/photos/**; "
        "prune='yes': expected bool, as in False; max_workers=True: expected int, as in 10"
    ) in run["log"]
