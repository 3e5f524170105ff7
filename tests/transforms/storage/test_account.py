"""transforms.storage.account: a process without a home or a name, as containers start them."""

import os
import shutil
import stat
import subprocess
import sys

import pytest

from tests.helpers.running import ROOT
from transforms.storage import account, private

UNKNOWN = 54321  # in no passwd
COMPLETED = (
    "import getpass, os; from pathlib import Path; from transforms.storage import account\n"
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


needs_users = pytest.mark.skipif(not _can_unshare(), reason="processes may have no users of their own here")


@needs_users
def test_a_user_without_an_entry_gets_a_home_and_a_name(tmp_path):
    done = as_unknown_user("-c", COMPLETED, TMPDIR=str(tmp_path))
    home = tmp_path / f"beam-image-embeddings-{UNKNOWN}"
    assert done.stdout == f"{home}\nuser{UNKNOWN}\n", done.stderr
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert as_unknown_user("-c", COMPLETED, TMPDIR=str(tmp_path)).stdout == done.stdout


@needs_users
def test_a_home_that_others_may_write_to_is_not_taken(tmp_path):
    taken = tmp_path / f"beam-image-embeddings-{UNKNOWN}"
    taken.mkdir()
    taken.chmod(0o777)
    home, _ = as_unknown_user("-c", COMPLETED, TMPDIR=str(tmp_path)).stdout.splitlines()
    assert home.startswith(f"{tmp_path}/beam-image-embeddings-") and home != str(taken)


@needs_users
def test_what_the_environment_tells_stays(tmp_path):
    done = as_unknown_user("-c", COMPLETED, HOME="/nowhere", LOGNAME="me", TMPDIR=str(tmp_path))
    assert done.stdout == "/nowhere\nme\n" and not list(tmp_path.iterdir())


@pytest.fixture
def untold(monkeypatch):
    """An environment that tells neither a home nor a name."""
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")  # so that it comes back
        monkeypatch.delenv(name)


def test_what_the_list_of_users_tells_stays(untold):
    account.complete()
    assert "HOME" not in os.environ and "USER" not in os.environ


@pytest.mark.parametrize("kind", [KeyError, OSError])  # the latter from Python 3.13 on
def test_a_user_without_a_name(untold, monkeypatch, kind):
    def unknown():
        raise kind("no such user")

    monkeypatch.setattr(account.getpass, "getuser", unknown)
    account.complete()
    assert os.environ["USER"] == f"user{os.geteuid()}"


@pytest.mark.parametrize("kind", [private.NotPrivate, OSError])
def test_a_home_that_cannot_be_made_is_a_new_one(monkeypatch, tmp_path, kind):
    def refuse(*args):
        raise kind("no")

    monkeypatch.setattr(private, "make", refuse)
    monkeypatch.setattr(account.tempfile, "tempdir", str(tmp_path))
    home = account._home()
    assert home.parent == tmp_path and stat.S_IMODE(home.stat().st_mode) == 0o700


@needs_users
@pytest.mark.slow
def test_the_command_shows_a_job_of_dataflow(tmp_path):
    flags = "--preset=dataflow", "--project=p", "--region=us-central1", "--temp_location=gs://b/t", "--output=gs://b/o"
    quote = "--dry_run", "--input=gs://b/x/*", "--images=1000", "--image_bytes=500000"
    done = as_unknown_user("run_pipeline.py", *flags, *quote, TMPDIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "") and f"user{UNKNOWN}" in done.stdout


@needs_users
@pytest.mark.slow
def test_the_command_runs(tmp_path):
    done = as_unknown_user("run_pipeline.py", "--output", tmp_path / "out", TMPDIR=str(tmp_path))
    assert done.returncode == 0 and "13 images listed = 13 embedded" in done.stdout, done.stderr
