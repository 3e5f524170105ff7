"""A whole submission by the command, to a stand-in for Dataflow on localhost and buckets that are real to Beam."""

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from google.cloud import storage
from google.cloud.dataflow_v1beta3 import Job

from pipeline.commands.quote import dataflow_job
from tests.helpers import data_generation as data
from tests.helpers.running import ROOT, command

pytestmark = pytest.mark.slow

IMAGE = "us-docker.pkg.dev/test/images/embed:1"


@contextlib.contextmanager
def dataflow() -> Iterator[tuple[int, list[dict]]]:
    """Starts a server that takes jobs and says that they are done; yields its port and what was submitted."""
    jobs: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            jobs.append({"path": self.path.partition("?")[0], "job": job})
            self._answer(job | {"id": "job-1", "currentState": "JOB_STATE_PENDING"})

        def do_GET(self) -> None:
            if self.path.partition("?")[0].endswith("/jobs/job-1"):
                self._answer(jobs[0]["job"] | {"id": "job-1", "currentState": "JOB_STATE_DONE"})
            else:
                self._answer({})  # messages and metrics: none

        def _answer(self, body: dict) -> None:
            encoded = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, jobs
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _set(options: dict) -> dict:
    """Returns options that are set to something: the checks before a real submission write down some that are not."""
    return {name: value for name, value in options.items() if value}


@pytest.mark.parametrize("separate", [False, True], ids=["fused", "separate"])
def test_a_submission_with_gpus(cloud, separate):
    bucket = storage.Client().create_bucket(f"submission-{separate}".lower())
    bucket.blob("photos/1.jpg").upload_from_string(data.jpeg(1, 24, 32))
    where = f"gs://{bucket.name}"
    with dataflow() as (port, jobs):
        flags = [
            "--preset=dataflow-gpu",
            f"--input={where}/photos/",
            f"--output={where}/vectors",
            "--project=test",
            "--region=us-central1",
            f"--temp_location={where}/temp",
            f"--sdk_container_image={IMAGE}",
            "--job_name=embed",
            # By that name it speaks REST; by a number, gRPC.
            f"--dataflow_endpoint=http://localhost:{port}",
        ]
        done = subprocess.run(
            command(*flags, *["--separate_gpu_stage"] * separate),
            cwd=ROOT,
            env=os.environ | cloud.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"the job was submitted; its report will be {where}/vectors/runs/")
    (submitted,) = jobs
    assert submitted["path"] == "/v1b3/projects/test/locations/us-central1/jobs"
    environment = submitted["job"]["environment"]
    (pool,) = environment["workerPools"]
    assert submitted["job"]["name"] == "embed"
    assert "no_use_multiple_sdk_containers" in environment["experiments"]
    assert pool["numThreadsPerWorker"] == 8 and pool["machineType"] == "n1-standard-4"
    assert {image["containerImage"] for image in pool["sdkHarnessContainerImages"]} == {IMAGE}

    # What the workers would be given lies in the bucket, where the request says.
    staged = {blob.name for blob in bucket.list_blobs(prefix="temp/embed.")}
    assert {f"storage.googleapis.com/{bucket.name}/{name}" for name in staged} >= {
        package["location"] for package in pool["packages"]
    }
    url = environment["sdkPipelineOptions"]["options"]["pipelineUrl"]
    proto = beam_runner_api_pb2.Pipeline.FromString(bucket.blob(url.removeprefix(f"{where}/")).download_as_bytes())
    (on_gpu,) = [stage for stage in dataflow_job.fused_stages(proto) if stage.accelerator]
    assert on_gpu.accelerator == "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver"
    assert any("RunInference" in name for name in on_gpu.transforms)
    assert any(name.startswith("DecodeImages/") for name in on_gpu.transforms) is not separate


def test_the_dry_run_shows_what_is_submitted(cloud):
    bucket = storage.Client().create_bucket("submission-dry")
    bucket.blob("photos/1.jpg").upload_from_string(data.jpeg(1, 24, 32))
    with dataflow() as (port, jobs):
        flags = [
            "--preset=dataflow",
            f"--input=gs://{bucket.name}/photos/",
            f"--output=gs://{bucket.name}/vectors",
            "--run_id=r",
            "--project=test",
            "--region=us-central1",
            f"--temp_location=gs://{bucket.name}/temp",
            "--job_name=embed",
            f"--dataflow_endpoint=http://localhost:{port}",
        ]

        def run(*more: str) -> str:
            done = subprocess.run(
                command(*flags, *more),
                cwd=ROOT,
                env=os.environ | cloud.environment,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        shown = json.loads(run("--dry_run=json"))["job_request"]
        assert not jobs and not list(bucket.list_blobs(prefix="temp/"))
        run()
    (submitted,) = jobs

    def comparable(job: dict) -> dict:
        # Names or numbers of enums, whoever wrote it.
        job = json.loads(Job.to_json(Job.from_json(json.dumps(job)), always_print_fields_with_no_presence=False))
        said = job["environment"]["sdkPipelineOptions"].pop("options")
        job["environment"].pop("sdkPipelineOptions")  # the options once more, as display data
        for name in ("pipelineUrl", "temp_location", "staging_location"):  # they have the time in them
            assert said.pop(name).startswith(f"gs://{bucket.name}/temp/embed.")
        for name in ("pipelineProtoHash", "dry_run", "beam_plugins"):
            said.pop(name, None)
        assert (
            job["environment"].pop("tempStoragePrefix").startswith(f"storage.googleapis.com/{bucket.name}/temp/embed.")
        )
        (pool,) = job["environment"]["workerPools"]
        pool["packages"] = sorted(package["name"] for package in pool["packages"])
        return {"name": job["name"], "type": job["type"], "environment": job["environment"], "options": _set(said)}

    mine, real = comparable(shown), comparable(submitted["job"])
    assert mine == real
