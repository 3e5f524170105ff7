"""Runs in Airflow's environment for tests that run outside it: `airflow_probe.py COMMAND INPUT.json OUTPUT.json`.

  dag      loads the DAG as a scheduler does, runs all of it once per scenario, and judges recorded runs
  parse    reads launch requests with Dataflow's own client, and writes them again

Only the address of the Dataflow API is changed. Hooks, operators and clients are the released ones.
"""

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

DAGS = Path(__file__).parents[2] / "deploy" / "airflow"
SCENARIO = "=== scenario"  # printed before what a scenario prints


def dag(inputs: dict[str, Any]) -> dict[str, Any]:
    from airflow.models.dagbag import DagBag

    bag = DagBag(DAGS, include_examples=False)
    if bag.import_errors:
        return {"errors": bag.import_errors}
    (loaded,) = bag.dags.values()
    settings = loaded.get_task("plan").python_callable.__globals__["complete_settings"](inputs["settings"])
    return {
        "errors": {},
        "dag": _described(loaded),
        "settings": settings,
        "judged": {run_id: _judged(loaded, settings | {"run_id": run_id}) for run_id in inputs["judge"]},
        "runs": _runs(loaded, inputs["scenarios"]),
    }


def _described(loaded: Any) -> dict[str, Any]:
    return {
        "dag_id": loaded.dag_id,
        "schedule": loaded.timetable.summary,
        "catchup": loaded.catchup,
        "max_active_runs": loaded.max_active_runs,
        "tasks": {
            task.task_id: {
                "operator": task.task_type,
                "upstream": sorted(task.upstream_task_ids),
                "retries": task.retries,
                "hours": task.execution_timeout and task.execution_timeout / timedelta(hours=1),
                "trigger_rule": task.trigger_rule.value,
                "own_job_name": getattr(task, "append_job_name", None) is False,
            }
            for task in loaded.topological_sort()
        },
    }


def _judged(loaded: Any, planned: dict[str, Any]) -> str:
    from airflow.exceptions import AirflowFailException

    try:
        return loaded.get_task("judge").python_callable(planned)
    except AirflowFailException as error:
        return f"failed: {error}"


def _runs(loaded: Any, scenarios: dict[str, dict[str, Any]]) -> dict[str, Any]:
    from airflow.providers.google.cloud.hooks.dataflow import DataflowHook
    from googleapiclient.discovery import build

    for task in loaded.tasks:
        task.retries = 0  # dag.test would really wait between retries
    loaded.get_task("embed").poll_sleep = 0
    outcomes = {}
    for name, scenario in scenarios.items():
        print(SCENARIO, name, flush=True)
        options = {"api_endpoint": scenario["dataflow"]}
        DataflowHook.get_conn = lambda hook, options=options: build(
            "dataflow", "v1b3", http=hook._authorize(), client_options=options
        )
        date = datetime.fromisoformat(scenario["date"])
        result = loaded.test(
            logical_date=None if scenario["by_hand"] else date,
            run_after=date,
            run_conf={"settings": scenario["settings"]},
        )
        instances = {instance.task_id: instance for instance in result.get_task_instances()}
        outcomes[name] = {
            "state": result.state,
            "tasks": {task: instance.state for task, instance in instances.items()},
            "returned": instances["judge"].xcom_pull(task_ids="judge"),
        }
    return outcomes


def parse(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from google.cloud import dataflow
    from google.protobuf import json_format

    message = dataflow.LaunchFlexTemplateRequest.pb()
    return [json_format.MessageToDict(json_format.ParseDict(request, message())) for request in requests]


if __name__ == "__main__":
    command, input_path, output_path = sys.argv[1:]
    output = {"dag": dag, "parse": parse}[command](json.loads(Path(input_path).read_text()))
    Path(output_path).write_text(json.dumps(output, default=str))
