"""The script for cron, run as cron runs it: on the sample images, against a lock, and with what goes wrong."""

import fcntl
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.flags import parser

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "cron" / "embed-nightly.sh"
CRONTAB = ROOT / "deploy" / "cron" / "crontab"


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def run(
    state: Path, command: Path, *flags: object, timeout: float = 30, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs the script in the sparse environment that cron gives."""
    return subprocess.run(
        [SCRIPT, *map(str, flags)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(state.parent), "EMBED_IMAGES": str(command), "STATE_DIR": str(state)}
        | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_shellcheck_has_nothing_to_say(airflow):
    done = subprocess.run([airflow / "shellcheck", SCRIPT], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_documented_commands_are_a_script_that_shellcheck_accepts(airflow, tmp_path):
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "scheduling.md").read_text(), re.DOTALL)
    assert len(blocks) == 9
    path = script(tmp_path / "commands", "\n".join(blocks))
    done = subprocess.run([airflow / "shellcheck", "--shell=bash", path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_night_is_embedded_once_however_often_it_is_started(state, tmp_path):
    embed_images = script(tmp_path / "embed-images", f'exec "{sys.executable}" "{ROOT / "run_pipeline.py"}" "$@"')
    output = tmp_path / "vectors"
    flags = ["--input", ROOT / "pipeline" / "samples" / "images", "--output", output]
    first = run(state, embed_images, *flags, timeout=240, RUN_ID="nightly-20261121")
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    written = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    report = json.loads((output / "runs" / "nightly-20261121.json").read_text())
    assert report["counts"]["listed"] == report["counts"]["embedded"] > 10

    again = run(state, embed_images, *flags, timeout=240, RUN_ID="nightly-20261121")
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()} == written
    assert "images listed" in (state / "nightly-20261121.log").read_text()


def test_the_exit_code_and_the_end_of_the_log_reach_cron(state):
    # The command itself, with a flag that it refuses before any work.
    command = script(state.parent / "embed-images", f'exec "{sys.executable}" "{ROOT / "run_pipeline.py"}" "$@"')
    done = run(state, command, "--max_failure_rate", "2", RUN_ID="nightly-1")
    assert done.returncode == 2
    assert "expected exit code 0 of run_id=nightly-1, found 2" in done.stderr
    assert "expected a number from 0 to 1" in done.stderr


def test_a_run_that_is_at_work_is_not_joined_by_another(state, tmp_path):
    state.mkdir()
    witness = tmp_path / "ran"
    command = script(tmp_path / "embed-images", f"touch {witness}")
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run(state, command, RUN_ID="nightly-2")
    assert done.returncode == 75
    assert "run_id=nightly-2 is left to the next call" in done.stderr
    assert not witness.exists()
    assert run(state, command).returncode == 0
    assert witness.exists()


def test_the_lock_outlives_a_killed_script(state, tmp_path):
    # The job, not its script, is what must not run twice.
    note = tmp_path / "pid"
    command = script(tmp_path / "embed-images", f"echo $$ > {note}.new; mv {note}.new {note}; exec sleep 60")
    environment = {"PATH": "/usr/bin:/bin", "EMBED_IMAGES": str(command), "STATE_DIR": str(state)}
    killed = subprocess.Popen([SCRIPT], env=environment)
    while not note.exists():
        assert killed.poll() is None
        time.sleep(0.01)
    job = int(note.read_text())
    try:
        killed.kill()
        killed.wait(10)
        assert run(state, script(tmp_path / "another", "true")).returncode == 75
    finally:
        os.kill(job, signal.SIGKILL)
    with (state / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back with the job


@pytest.mark.parametrize("zone", ["<+14>-14", "<-12>12"], ids=["east", "west"])  # in one of them it is another day
def test_a_run_is_named_after_its_day_in_utc(state, tmp_path, zone):
    before = datetime.now(UTC)
    done = run(state, script(tmp_path / "embed-images", 'echo "$@"'), "--input", "a b/*.jpg", TZ=zone)
    assert done.returncode == 0
    (log,) = state.glob("*.log")
    days = {f"nightly-{moment:%Y%m%d}" for moment in (before, datetime.now(UTC))}  # midnight may pass meanwhile
    assert log.stem in days
    assert log.read_text() == f"--run_id {log.stem} --input a b/*.jpg\n"


def test_old_logs_go(state, tmp_path):
    state.mkdir()
    old, recent = state / "nightly-20200101.log", state / "nightly-20261101.log"
    for log, age in ((old, 40), (recent, 20)):
        log.touch()
        then = datetime.now(UTC).timestamp() - age * 86400
        os.utime(log, (then, then))
    assert run(state, script(tmp_path / "embed-images", "true"), RUN_ID="now").returncode == 0
    assert set(state.glob("*.log")) == {recent, state / "now.log"}


def test_the_crontab_calls_the_script_with_flags_that_exist():
    lines = [line for line in CRONTAB.read_text().splitlines() if not line.startswith("#")]
    (line,) = [line for line in lines if not re.match(r"[A-Z_]+=", line)]
    *times, command = line.split(maxsplit=5)
    assert len(times) == 5
    assert all(re.fullmatch(r"\*|\d+", field) for field in times)
    assert Path(command.split()[0]).name == SCRIPT.name
    assert "%" not in command  # a line break to cron
    beams = {"--temp_location"}
    assert set(re.findall(r"--\w+", command)) <= {*parser.known_flags(), *beams}
