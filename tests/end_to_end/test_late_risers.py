"""Attempts that are stopped, lose their run to another host, and wake up: they change nothing, and say so.

Each is a process of its own, which stops just before a named operation on a file. tests/pipeline has further steps.
"""

import json
import signal
from pathlib import Path

import pytest

from pipeline.commands.verify.verify import verify
from tests.helpers import data_generation as data
from tests.helpers import stopping
from tests.helpers.faults import Hold, fault_proxy
from tests.helpers.killing import stored, wait_for
from tests.helpers.running import read_rows
from tests.helpers.warehouses import Warehouse, name_of, wait_until_held

pytestmark = pytest.mark.slow

IMAGES = 120
LOST = "is not this attempt's any more, so it names no file"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("input") / "photos"
    data.write_images(directory, IMAGES, height=60, width=80)
    (directory / "broken.jpg").write_bytes(b"no image")
    return directory


def report(output: Path) -> dict:
    return json.loads((output / "runs" / "r.json").read_text())


def assert_complete(output: Path, attempt: int) -> None:
    """Makes sure that the run is as the attempt of a number has left it, and that nothing else is there."""
    assert verify(str(output)).total == 0
    assert report(output)["attempt"] == attempt
    assert len({row["image/key"] for row in read_rows(output)}) == IMAGES
    assert not list(output.rglob(".*")) and not list(output.glob("runs/*.unfinished"))


def held_until_another_completes(warehouse: Warehouse, flags: list[str], server: str, held_at: str) -> tuple[int, str]:
    """Runs a command of which a request is under way while another host completes the run. Returns as `stopping.wake`.

    Args:
      warehouse: of the run.
      flags: of the command.
      server: that the request goes to, BIGQUERY or STORAGE.
      held_at: see `Hold`.
    """
    hold, environment = Hold(held_at), warehouse.environment
    bigquery, storage = (environment[f"{name}_EMULATOR_HOST"] for name in ("BIGQUERY", "STORAGE"))
    with (
        fault_proxy(bigquery, hold=hold if server == "BIGQUERY" else None) as to_bigquery,
        fault_proxy(storage, hold=hold if server == "STORAGE" else None, preconditions=True) as to_storage,
        stopping.started(
            "first",
            *flags,
            env=environment | {"BIGQUERY_EMULATOR_HOST": to_bigquery.url, "STORAGE_EMULATOR_HOST": to_storage.url},
        ) as first,
    ):
        wait_until_held(hold, first)
        first.send_signal(signal.SIGSTOP)
        code, said = stopping.run("second", *flags, env=environment)
        assert code == 0, said
        hold.released.set()
        return stopping.wake(first)


def test_one_that_is_stopped_while_it_embeds_stops_for_good(photos, tmp_path):
    output = tmp_path / "out"
    flags = "--input", photos, "--output", output, "--run_id", "r"
    with stopping.started("first", *flags) as first:
        wait_for(lambda: len(stored(output)) >= IMAGES // 4, first)
        first.send_signal(signal.SIGSTOP)
        stopping.wait_until_stopped(first)
        before = len(stored(output))
        code, said = stopping.run("second", *flags)
        assert code == 0 and "the run 'r' was begun on first: waiting 2 s for a sign of life" in said
        finished = report(output)
        code, said = stopping.wake(first)
    assert code == 1 and LOST in said
    assert report(output) == finished and next(iter(finished["attempts"].values())) == before
    assert_complete(output, 2)


@pytest.mark.parametrize(
    "stop_at",
    [
        r"open \S*/\.parts/\S*-embedded-",
        r"os.link \S* \S*/schema\.pbtxt$",
        r"os.rename \S* \S*/embeddings/r/part-",
        r"os.rename \S* \S*/runs/r\.statistics$",
        r"os.rename \S* \S*/runs/r\.html$",
        r"os.rename \S* \S*/runs/r\.json$",
    ],
    ids=["part", "schema", "name of a file", "statistics", "page", "report"],
)
def test_one_that_is_stopped_just_before_it_writes_changes_nothing(photos, tmp_path, stop_at):
    output = tmp_path / "out"
    flags = "--input", photos, "--output", output, "--run_id", "r"
    with stopping.started("first", *flags, stop_at=stop_at) as first:
        stopping.wait_until_stopped(first)
        assert stopping.run("second", *flags)[0] == 0
        finished = report(output)
        code, said = stopping.wake(first)
    assert code == 1 and LOST in said
    assert report(output) == finished
    assert_complete(output, 2)


def test_one_that_is_stopped_while_it_makes_the_page_of_a_complete_run_changes_nothing(photos, tmp_path):
    output = tmp_path / "out"
    flags = "--input", photos, "--output", output, "--run_id", "r"
    assert stopping.run("zero", *flags)[0] == 0
    (output / "runs" / "r.html").unlink()
    with stopping.started("first", *flags, stop_at=r"os.rename \S* \S*/runs/r\.html$") as first:
        stopping.wait_until_stopped(first)
        assert stopping.run("second", *flags, "--overwrite")[0] == 0
        finished = report(output)
        code, said = stopping.wake(first)
    assert code == 2 and LOST in said
    assert report(output) == finished
    assert_complete(output, 3)


def test_one_that_has_completed_a_run_that_another_host_has_replaced_since_says_so(photos, tmp_path):
    output = tmp_path / "out"
    flags = "--input", photos, "--output", output, "--run_id", "r"
    with stopping.started("first", *flags, stop_at=r"os.remove \S*/\.parts/") as first:
        stopping.wait_until_stopped(first)
        assert stopping.run("second", *flags, "--overwrite")[0] == 0
        code, said = stopping.wake(first)
    assert code == 0 and "the run 'r' was completed, and another process has replaced it since" in said
    assert_complete(output, 2)


def test_one_whose_files_another_host_has_removed_says_why_it_fails(warehouse):
    """Its rows are in no table yet, and the other host has removed the files that hold them."""
    warehouse.put_images([f"{i}.jpg" for i in range(12)], 0)
    flags = warehouse.flags("images", "--run_id=r")
    code, said = held_until_another_completes(warehouse, flags, "BIGQUERY", r"^POST /bigquery\S*/jobs\?alt=json ")
    assert code == 1 and "the job failed: the run was taken over or its output was removed: BigQuery job" in said
    assert [blob.name for blob in warehouse.temp.list_blobs()] == []
    assert not [table for table in warehouse.tables() if "staging" in table]
    assert len(warehouse.rows("images")) == 12


def test_one_that_looked_before_another_host_did_the_whole_run_finds_it_complete(photos, tmp_path):
    output = tmp_path / "out"
    flags = "--input", photos, "--output", output, "--run_id", "r"
    claims = r"open \S*/runs$"  # the directory, for its lock
    with stopping.started("first", *flags, stop_at=claims) as first:
        stopping.wait_until_stopped(first)
        assert stopping.run("second", *flags)[0] == 0
        code, said = stopping.wake(first)
    assert code == 0 and "the run 'r' is complete, nothing was done" in said
    assert_complete(output, 1)


@pytest.mark.parametrize(
    ("server", "held_at"),
    [
        ("BIGQUERY", "BEGIN TRANSACTION"),
        ("STORAGE", r"^POST \S*runs%2F\.r\.html\.\w*/copyTo/"),
        ("STORAGE", r"^POST \S*runs%2F\.r\.json\.\w*/copyTo/"),
    ],
    ids=["rows", "page", "report"],
)
def test_a_last_request_that_comes_late_changes_nothing(warehouse, request, server, held_at):
    """The request is under way when another host takes over the run, and arrives when that has completed it."""
    warehouse.put_images([f"{i}.jpg" for i in range(12)], 0)
    output = f"gs://{warehouse.temp.name}/out"
    flags = warehouse.flags("images", "--run_id=r", f"--output={output}")
    code, said = held_until_another_completes(warehouse, flags, server, held_at)
    assert code == 1 and said.count("has another process taken over") + said.count("was taken over or") < 2
    assert ("another process has published this run" if server == "BIGQUERY" else LOST) in said
    (row,) = warehouse.query("SELECT report FROM images_runs")
    assert json.loads(row["report"])["attempt"] == 2 and len(warehouse.rows("images")) == 12
    found = verify(output, table=f"test.{name_of(request)}.images")
    assert found.total == 0, found.problems
