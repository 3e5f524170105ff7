"""Storage that is there no more: a run ends in one line, whatever the client of the storage raises.

It answers 403, which is not tried again. A storage that answers 503 or not at all ends in the same way after the two
minutes of retries of each client, which tests/transforms/storage/test_gcs.py bounds.
"""

import os
import re
from pathlib import Path

import pytest
from google.cloud import storage

from tests.helpers import data_generation as data
from tests.helpers import fork_server
from tests.helpers.faults import fault_proxy
from tests.helpers.killing import FLAGS, TIMEOUT
from tests.helpers.running import run_pipeline

pytestmark = pytest.mark.slow


class Refusing:
    """Decides that from the first request on in which a text is found, all are refused, or only those with the text."""

    def __init__(self, text: str, for_ever: bool):
        self._text = text.encode()
        self._for_ever = for_ever
        self._refuses = False

    def next(self, method: str, path: str, body: bytes = b"") -> str | None:
        is_found = self._text in path.encode() + body
        self._refuses = is_found or (self._refuses and self._for_ever)
        return "forbidden" if self._refuses else None


def run_refused(cloud, tmp_path, bucket, decisions):
    storage.Client().create_bucket(bucket)
    data.write_images(tmp_path / "photos", 40, height=60, width=80)
    with fault_proxy(cloud.environment["STORAGE_EMULATOR_HOST"], decisions=decisions) as proxy:
        environment = os.environ | cloud.environment | {"STORAGE_EMULATOR_HOST": proxy.url}
        flags = "--input", tmp_path / "photos", "--run_id=r", "--output", f"gs://{bucket}/out"
        return run_pipeline(cloud.buckets / bucket / "out", *FLAGS, *flags, env=environment, timeout=TIMEOUT)


def test_a_claim_that_is_refused(cloud, tmp_path):
    run = run_refused(cloud, tmp_path, "no-claims", Refusing("r.unfinished", for_ever=False))
    assert run.code == 2 and run.stdout == ""
    assert re.fullmatch(r"run_pipeline\.py: gs://no-claims/out/runs/r\.unfinished: 403 .*\n", run.stderr), run.stderr
    assert not list(storage.Client().list_blobs("no-claims"))


def test_a_storage_that_is_gone_while_the_job_writes(cloud, tmp_path):
    run = run_refused(cloud, tmp_path, "gone", Refusing("-embedded-", for_ever=True))
    last = run.stderr.splitlines()[-1]
    said = re.fullmatch(r"run_pipeline\.py: the job failed: gs://gone/out/.*: 403 .*; all that was logged: (.+)", last)
    assert run.code == 1 and said, run.stderr
    assert "Traceback" not in run.stderr and "Traceback" in Path(said[1]).read_text()
    Path(said[1]).unlink()


@pytest.mark.parametrize("code", [2, 1])
def test_s3_that_refuses(s3_bucket, tmp_path, code):
    """The claim, or everything from the first part on."""
    data.write_images(tmp_path / "photos", 40, height=60, width=80)
    decisions = Refusing("r.unfinished" if code == 2 else "-embedded-", for_ever=code == 1)
    with fault_proxy(os.environ["AWS_ENDPOINT_URL"], decisions=decisions, keep_host=True) as proxy:
        environment = os.environ | {"AWS_ENDPOINT_URL": proxy.url}
        flags = "--input", tmp_path / "photos", "--run_id=r", "--output", f"{s3_bucket}/out"
        run = fork_server.run([*FLAGS, *map(str, flags)], environment, TIMEOUT)
    assert run.returncode == code and "Traceback" not in run.stderr, run.stderr
    assert re.search(rf"{s3_bucket}/out/.*: .*\b403\b", run.stderr.splitlines()[-1]), run.stderr
    if logged := re.search("all that was logged: (.+)", run.stderr):
        Path(logged[1]).unlink()
