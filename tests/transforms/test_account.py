"""transforms.account: a process without a home or a name, as containers start them."""

import os
import shutil
import stat
import subprocess
import sys

import pytest

from tests.running import ROOT

UNKNOWN = 54321  # in no passwd
COMPLETED = (
    "import getpass, os; from pathlib import Path; from transforms import account\n"
    "account.complete(); print(Path.home(), getpass.getuser(), sep='\\n')"
)


def as_unknown_user(*argv: object, **environment: str) -> subprocess.CompletedProcess:
    """Runs Python under a user id without an entry, in an environment with nothing but PATH and these variables."""
    # In a namespace of its own, so that it needs no rights, and may still read this project.
    outer = ["unshare", "--user", f"--map-user={UNKNOWN}", sys.executable, *map(str, argv)]
    env = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(outer, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False)


def _can_unshare() -> bool:
    return bool(shutil.which("unshare")) and as_unknown_user("-c", "").returncode == 0


pytestmark = pytest.mark.skipif(not _can_unshare(), reason="processes may have no users of their own here")


def test_a_user_without_an_entry_gets_a_home_and_a_name(tmp_path):
    done = as_unknown_user("-c", COMPLETED, TMPDIR=str(tmp_path))
    home = tmp_path / f"beam-image-embeddings-{UNKNOWN}"
    assert done.stdout == f"{home}\nuser{UNKNOWN}\n", done.stderr
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert as_unknown_user("-c", COMPLETED, TMPDIR=str(tmp_path)).stdout == done.stdout


def test_a_home_that_others_may_write_to_is_not_taken(tmp_path):
    taken = tmp_path / f"beam-image-embeddings-{UNKNOWN}"
    taken.mkdir()
    taken.chmod(0o777)
    home, _ = as_unknown_user("-c", COMPLETED, TMPDIR=str(tmp_path)).stdout.splitlines()
    assert home.startswith(f"{tmp_path}/beam-image-embeddings-") and home != str(taken)


def test_what_the_environment_tells_stays(tmp_path):
    done = as_unknown_user("-c", COMPLETED, HOME="/nowhere", LOGNAME="me", TMPDIR=str(tmp_path))
    assert done.stdout == "/nowhere\nme\n" and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_shows_a_job_of_dataflow(tmp_path):
    flags = "--preset=dataflow", "--project=p", "--region=us-central1", "--temp_location=gs://b/t", "--output=gs://b/o"
    quote = "--dry_run", "--input=gs://b/x/*", "--images=1000", "--image_bytes=500000"
    done = as_unknown_user("run_pipeline.py", *flags, *quote, TMPDIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "") and f"user{UNKNOWN}" in done.stdout


@pytest.mark.slow
def test_the_command_runs(tmp_path):
    done = as_unknown_user("run_pipeline.py", "--output", tmp_path / "out", TMPDIR=str(tmp_path))
    assert done.returncode == 0 and "13 images listed = 13 embedded" in done.stdout, done.stderr
