"""An environment with a real Airflow, and good and bad nights: rows in the BigQuery emulator, jobs of a Dataflow."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from tests.deploy.fake_dataflow import FakeDataflow, fake_dataflow
from tests.helpers import emulators

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "airflow-requirements.txt"
TABLE = "images.embeddings_runs"
COUNTS = ("listed", "embedded", "reused", "duplicate", "failed", "skipped")
# The columns that a judgement reads, with the pipeline's types.
COLUMNS = "run_id STRING, failure_rate FLOAT64, verdict STRING, " + ", ".join(f"{name} INT64" for name in COUNTS)
# What was recorded of a night: the counts in the order of COUNTS, the failure rate and the verdict of each of its rows.
NIGHTS: dict[str, list[tuple[tuple[int | None, ...], float | None, str | None]]] = {
    "good": [((1000, 40, 5, 2, 3, 950), 0.003, "read-bound: 61% of the workers' busy time went into the stage read")],
    "missing": [],
    "twice": [((10, 10, 0, 0, 0, 0), 0.0, "embed-bound")] * 2,
    "sums": [((1000, 40, 5, 2, 3, 949), 0.003, "read-bound")],
    "failures": [((1000, 40, 5, 2, 23, 930), 0.023, "decode-bound")],
    "unknown": [((None,) * 6, None, None)],
    "job_failed": [],
    "still_active": [],
}
SETTINGS = {
    "project": "my-project",
    "region": "europe-west1",
    "template": "gs://my-temp/templates/embed-images.json",
    "worker_service_account": "embed-worker@my-project.iam.gserviceaccount.com",
    "temp_location": "gs://my-temp/embed-images",
    "input": "gs://my-images/**",
    "output_table": "test:images.embeddings",
}


def hour(night: str) -> str:
    """Returns the logical date of a night; each has an hour of its own."""
    return f"2026-11-21T{list(NIGHTS).index(night):02}:00:00+00:00"


def run_id(night: str) -> str:
    return f"nightly-20261121T{list(NIGHTS).index(night):02}0000"


def job_name(night: str) -> str:
    return f"embed-images-{run_id(night).lower()}"


@pytest.fixture(scope="session")
def airflow() -> Path:
    """The bin directory of the environment, made once a list of requirements and kept outside of the repository."""
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beam-image-embeddings"
    environment = cache / f"airflow-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"airflow-{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # each process of pytest-xdist comes by
        if not (environment / "complete").exists():
            _make(environment)
    return environment / "bin"


def _make(environment: Path) -> None:
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    bin_ = environment / "bin"
    (uv,) = [line for line in REQUIREMENTS.read_text().splitlines() if line.startswith("uv==")]
    subprocess.run([bin_ / "python", "-m", "pip", "install", "-qq", uv], check=True)
    # pip would take minutes for these 260 packages.
    subprocess.run([bin_ / "uv", "pip", "install", "-q", "-p", bin_ / "python", "-r", REQUIREMENTS], check=True)
    subprocess.run(
        [bin_ / "airflow", "db", "migrate"],
        env=os.environ | {"AIRFLOW_HOME": str(environment / "home")},
        check=True,
        capture_output=True,
    )
    (environment / "complete").touch()


@pytest.fixture(scope="session")
def bigquery_runs(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The environment under which clients find the table of runs, with ROWS in it."""
    directory = tmp_path_factory.mktemp("bigquery")
    with emulators.bigquery_emulator(directory, directory) as environment:
        client = bigquery.Client(
            "test",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": environment["BIGQUERY_EMULATOR_HOST"]},
        )
        client.query_and_wait("CREATE SCHEMA images")
        client.query_and_wait(f"CREATE TABLE {TABLE} ({COLUMNS})")
        rows = [
            {"run_id": run_id(night), "failure_rate": rate, "verdict": verdict} | dict(zip(COUNTS, counts, strict=True))
            for night, recorded in NIGHTS.items()
            for counts, rate, verdict in recorded
        ]
        assert client.insert_rows_json(TABLE, rows) == []
        yield environment


@pytest.fixture(scope="module")
def dataflow() -> Iterator[FakeDataflow]:
    with fake_dataflow() as fake:
        # Cancelled by hand, for one: not every launcher notices.
        fake.ends = {job_name("job_failed"): "JOB_STATE_CANCELLED"}
        fake.active = {job_name("still_active"): 2}
        yield fake


@pytest.fixture(scope="session")
def probe(airflow, bigquery_runs, tmp_path_factory) -> Callable[[str, Any], tuple[Any, str]]:
    """Runs a command of airflow_probe.py; returns its output and the text that it printed."""
    home = tmp_path_factory.mktemp("airflow")
    shutil.copy(airflow.parent / "home" / "airflow.db", home)
    credentials = emulators.write_credentials(home)
    environment = emulators.environment(
        bigquery_runs
        | {
            "PATH": f"{airflow}{os.pathsep}{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONWARNINGS": "ignore",
            "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(HERE.parents[1] / "deploy" / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": "google-cloud-platform://",
            "AIRFLOW_VAR_IMAGE_EMBEDDINGS": json.dumps(SETTINGS),
        }
    )

    def call(command: str, inputs: Any) -> tuple[Any, str]:
        (home / "inputs.json").write_text(json.dumps(inputs))
        output = home / "output.json"
        output.unlink(missing_ok=True)
        done = subprocess.run(
            [airflow / "python", HERE / "airflow_probe.py", command, home / "inputs.json", output],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout
        return json.loads(output.read_text()), done.stdout

    return call
