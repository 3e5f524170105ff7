"""Runs that are killed, interrupted or out of space, and the same command after them: nothing that was stored is lost.

The command is a process of its own, and the kills are real.
"""

import contextlib
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from google.cloud import bigquery, storage

from pipeline.commands.verify.verify import verify
from tests.helpers import data_generation as data
from tests.helpers import fork_server
from tests.helpers.killing import FLAGS, TIMEOUT, forked, kill, started, stored, wait_for
from tests.helpers.running import ROOT, Run, command, read_rows, run_pipeline

pytestmark = pytest.mark.slow

IMAGES = 400
NAMED = ("--run_id", "r")


class Terminal:
    """What the command shows on a pseudo-terminal.

    Attributes:
      text: all of it.
      shown: (moment, images that were done then).
    """

    def __init__(self, descriptor: int):
        self.text = ""
        self.shown: list[tuple[float, int]] = []
        self._descriptor = descriptor
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    @property
    def done(self) -> int:
        return self.shown[-1][1] if self.shown else 0

    def close(self) -> None:
        self._thread.join()
        os.close(self._descriptor)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # how a pseudo-terminal says that the other side is closed
            while chunk := os.read(self._descriptor, 65536).decode():
                self.text += chunk
                self.shown += [(time.monotonic(), int(done)) for done in re.findall(r"(\d+) of \d+ images", chunk)]


@contextlib.contextmanager
def on_terminal(*flags: object, env: Mapping[str, str] | None = None) -> Iterator[tuple[subprocess.Popen, Terminal]]:
    """Starts the command with stderr on a pseudo-terminal, and kills it at the end of the block."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command(*FLAGS, *flags), cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    terminal = Terminal(ours)
    try:
        yield process, terminal
    finally:
        process.kill()
        process.wait()
        terminal.close()


def go_on(output: Path, *flags: object) -> Run:
    run = run_pipeline(output, *FLAGS, *flags, timeout=TIMEOUT)
    assert run.code == 0, run.stderr
    return run


def report(output: Path, run_id: str = "r") -> dict:
    return json.loads((output / "runs" / f"{run_id}.json").read_text())


def attempts(output: Path, run_id: str = "r") -> list[int]:
    """Returns the number of vectors of each attempt at a run, in the order of the attempts."""
    return list(report(output, run_id)["attempts"].values())


def counts(output: Path, run_id: str = "r") -> dict[str, int]:
    return {name: count for name, count in report(output, run_id)["counts"].items() if count}


def vectors(output: Path, run_id: str = "r") -> dict[bytes, np.ndarray]:
    """Returns the vectors of a run by key, and makes sure that each key occurs once."""
    rows = read_rows(output, run_id)
    keyed = {row["image/key"]: row["embedding"] for row in rows}
    assert len(keyed) == len(rows)
    return keyed


def assert_same_vectors(some: Mapping[bytes, np.ndarray], others: Mapping[bytes, np.ndarray]) -> None:
    assert some.keys() == others.keys()
    for key, vector in some.items():
        other = others[key]
        # float32, in batches of other sizes.
        assert vector @ other / np.linalg.norm(vector) / np.linalg.norm(other) > 0.999999


def assert_nothing_is_left(output: Path) -> None:
    assert not list(output.rglob(".*")) and not list(output.glob("runs/*.unfinished"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Images with all outcomes: most are new; some are known, copies, of known bytes, or broken."""
    directory = tmp_path_factory.mktemp("input") / "photos"
    paths = data.write_images(directory, IMAGES, height=60, width=80)
    for i in range(20):
        shutil.copy(paths[IMAGES - 1 - i], directory / f"copy-{i:02d}.jpg")  # of images that come late
    for i in range(5):
        (directory / f"broken-{i}.jpg").write_bytes(b"no image")
    return directory


@pytest.fixture(scope="module")
def with_earlier_run(photos, tmp_path_factory) -> Path:
    """An output that holds a run of some images, two of them among the photos, and of the bytes of six others."""
    directory = tmp_path_factory.mktemp("earlier")
    (directory / "old").mkdir()
    for i in range(10, 16):
        shutil.copy(photos / f"{i:05d}.jpg", directory / "old" / f"renamed-{i}.jpg")
    go_on(directory / "out", "--input", directory / "old", "--input", photos / "0000[12].jpg", "--run_id", "earlier")
    return directory / "out"


@pytest.fixture
def output(with_earlier_run, tmp_path) -> Path:
    return shutil.copytree(with_earlier_run, tmp_path / "out")


@pytest.fixture(scope="module")
def undisturbed(photos, with_earlier_run, tmp_path_factory) -> Path:
    """The output of the same run, which nobody disturbs."""
    output = shutil.copytree(with_earlier_run, tmp_path_factory.mktemp("undisturbed") / "out")
    go_on(output, "--input", photos, *NAMED)
    assert counts(output) == {
        "listed": IMAGES + 25,
        "embedded": IMAGES - 8,
        "reused": 6,
        "duplicate": 20,
        "failed": 5,
        "skipped": 2,
    }
    assert attempts(output) == [IMAGES + 18] and "attempts" not in report(output)["counts"]
    return output


@pytest.mark.parametrize("flags", [NAMED, ()], ids=["named", "not named"])
def test_what_was_stored_is_not_embedded_again(photos, output, undisturbed, flags):
    before = kill(output, "--input", photos, *flags, at=IMAGES * 3 // 4)
    (claim,) = output.glob("runs/*.unfinished")
    run_id = claim.stem
    assert not list(output.glob(f"embeddings/{run_id}/part-*"))

    run = go_on(output, "--input", photos, *flags)
    taken_over, own = attempts(output, run_id)
    assert taken_over == len(before) >= IMAGES * 3 // 4 and taken_over + own == IMAGES + 18
    assert f"{taken_over} vectors from earlier attempts at this run, {own} from the last" in run.stdout
    assert flags or f"going on with the interrupted run {run_id!r}" in run.stderr
    assert counts(output, run_id) == counts(undisturbed)
    assert report(output, run_id)["failures"] == report(undisturbed)["failures"]
    assert_same_vectors(vectors(output, run_id), vectors(undisturbed))
    assert len(list(output.glob(f"embeddings/{run_id}/part-*"))) == report(output, run_id)["shards"] <= 12
    assert len(list(output.glob(f"failures/{run_id}/part-*"))) >= 1
    assert_nothing_is_left(output)


@pytest.mark.parametrize(
    "flags",
    [("parquet",), ("parquet", "--vector_type=float16"), ("tfrecord,parquet",)],
    ids=["parquet", "float16", "both formats"],
)
def test_parquet_files_that_were_closed_are_not_embedded_again(photos, output, undisturbed, flags):
    flags = "--input", photos, *NAMED, "--checkpoint_seconds=1", "--output_format", *flags
    before = kill(output, *flags, at=IMAGES // 2)
    parts = list(output.glob("embeddings/r/.parts/*.parquet"))
    assert parts and not list(output.glob("embeddings/r/part-*"))
    go_on(output, *flags)
    taken_over, own = attempts(output)
    assert taken_over == len(set(before)) and taken_over + own == IMAGES + 18
    assert counts(output) == counts(undisturbed)
    for suffix in report(output)["output_formats"]:
        rows = read_rows(output, "r", suffix)
        assert len(rows) == IMAGES + 18
        assert_same_vectors({row["image/key"]: row["embedding"] for row in rows}, vectors(undisturbed))
    assert verify(str(output)).total == 0
    assert_nothing_is_left(output)


def test_a_run_goes_on_in_another_format(tmp_path):
    data.write_images(tmp_path / "photos", 200, height=60, width=80)
    before = kill(tmp_path / "out", "--input", tmp_path / "photos", *NAMED, at=100)
    go_on(tmp_path / "out", "--input", tmp_path / "photos", *NAMED, "--output_format=parquet")
    assert attempts(tmp_path / "out") == [len(before), 200 - len(before)]
    assert len(read_rows(tmp_path / "out", "r", "parquet")) == 200 and not list(tmp_path.rglob("*.tfrecord"))
    assert_nothing_is_left(tmp_path / "out")


def test_a_signal_ends_worker_processes_too(tmp_path):
    photos, output = tmp_path / "photos", tmp_path / "out"
    data.write_images(photos, 600, height=60, width=80)
    flags = "--direct_running_mode=multi_processing", "--direct_num_workers=2", "--input", photos, *NAMED
    with started(tmp_path / "log", *flags, "--output", output) as process:
        wait_for(lambda: len(stored(output)) >= 60, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    written = f"what the worker processes have written is stored in {output}/embeddings/r"
    assert f"\nrun_pipeline.py: interrupted: {written}; to go on: " in (tmp_path / "log").read_text()
    assert not list(output.glob("embeddings/r/.parts/*-decoding-*"))
    (claim,) = output.glob("runs/*.unfinished")
    assert json.loads(claim.read_text())["process"] == ""
    go_on(output, "--input", photos, *NAMED)
    taken_over, own = attempts(output)
    assert taken_over >= 60 and taken_over + own == 600


def test_a_signal_closes_parquet_files(tmp_path):
    data.write_images(tmp_path / "photos", 1200, height=60, width=80)
    output = tmp_path / "out"
    flags = "--input", tmp_path / "photos", "--output", output, *NAMED, "--output_format=parquet"
    with on_terminal(*flags, "--no_resume") as (process, terminal):
        wait_for(lambda: terminal.done >= 100, process)
        assert stored(output) == []  # --checkpoint_seconds have not passed
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    kept = len(stored(output))
    shown = re.search(r"interrupted: (\d+) images embedded, (\d+) vectors stored in ", terminal.text)
    assert shown and 90 <= int(shown[2]) <= int(shown[1]), terminal.text
    assert 0 <= kept - int(shown[2]) <= 64  # the workers write on until the process ends
    printed = re.search(r"to go on: (.*)", terminal.text)
    assert printed and shlex.split(printed[1]) == command(*FLAGS, *flags)
    go_on(*flags[3:4], *flags[:2], *flags[4:])
    assert attempts(output) == [kept, 1200 - kept]
    assert_nothing_is_left(output)


def test_two_seconds_before_a_kill_are_safe(tmp_path):
    """By the count that the command shows on a terminal, which is of images, and not of records in files."""
    data.write_images(tmp_path / "photos", 1200, height=60, width=80)
    flags = "--input", tmp_path / "photos", *NAMED
    with on_terminal("--output", tmp_path / "out", *flags) as (process, terminal):
        wait_for(lambda: any(done and moment < time.monotonic() - 2.5 for moment, done in terminal.shown), process)
        killed = time.monotonic()
        process.kill()
    two_seconds_before = max(done for moment, done in terminal.shown if moment <= killed - 2)
    assert two_seconds_before > 0
    go_on(tmp_path / "out", *flags)
    taken_over, _ = attempts(tmp_path / "out")
    assert taken_over >= two_seconds_before
    assert counts(tmp_path / "out") == {"listed": 1200, "embedded": 1200}


def test_an_image_that_changed_between_the_attempts_is_embedded_anew(tmp_path):
    paths = data.write_images(tmp_path / "photos", 200, height=60, width=80)
    before = kill(tmp_path / "out", "--input", tmp_path / "photos", *NAMED, at=100)
    changed, gone = (Path(os.fsdecode(key)) for key in before[:2])
    changed.write_bytes(data.jpeg(12345, 60, 80))
    gone.unlink()
    go_on(tmp_path / "out", "--input", tmp_path / "photos", *NAMED)
    assert attempts(tmp_path / "out") == [len(before) - 2, 199 - (len(before) - 2)]
    assert counts(tmp_path / "out") == {"listed": 199, "embedded": 199}
    rows = vectors(tmp_path / "out")
    assert rows.keys() == {os.fsencode(path) for path in paths if path != gone}
    go_on(tmp_path / "scratch", "--input", changed, *NAMED)
    assert_same_vectors({key: rows[key] for key in [os.fsencode(changed)]}, vectors(tmp_path / "scratch"))


@pytest.mark.parametrize("input_format", ["tar", "tfrecord"])
def test_images_in_shards_are_not_embedded_again(tmp_path, input_format):
    images = {f"{i:03d}.jpg": data.jpeg(i, 60, 80) for i in range(200)} | {"broken.jpg": b"no image"}
    for shard in range(2):
        own = {name: images[name] for name in sorted(images)[shard::2]}
        path = tmp_path / f"shard-{shard}.{input_format}"
        if input_format == "tar":
            data.write_tar(path, own)
        else:
            data.write_tfrecords(path, [data.image_example(image, name.encode()) for name, image in own.items()])
    flags = "--input", tmp_path / f"shard-*.{input_format}", "--input_format", input_format, *NAMED
    before = kill(tmp_path / "out", *flags, at=100)
    go_on(tmp_path / "out", *flags)
    assert attempts(tmp_path / "out") == [len(before), 200 - len(before)]
    assert counts(tmp_path / "out") == {"listed": 201, "embedded": 200, "failed": 1}
    assert len(vectors(tmp_path / "out")) == 200
    assert_nothing_is_left(tmp_path / "out")


@pytest.mark.parametrize("flags", [NAMED, ()], ids=["named", "not named"])
def test_without_resuming_everything_is_embedded(tmp_path, flags):
    data.write_images(tmp_path / "photos", 120, height=60, width=80)
    before = kill(tmp_path / "out", "--input", tmp_path / "photos", *flags, at=60)
    (claim,) = tmp_path.glob("out/runs/*.unfinished")
    run = go_on(tmp_path / "out", "--input", tmp_path / "photos", *flags, "--no_resume")
    (path,) = tmp_path.glob("out/runs/*.json")
    assert attempts(tmp_path / "out", path.stem) == [120] and "attempts" not in run.stdout
    if flags:
        assert_nothing_is_left(tmp_path / "out")
    else:
        assert path.stem != claim.stem and claim.exists() and sorted(stored(tmp_path / "out")) == sorted(before)


def test_the_run_that_is_replaced_stays_until_its_successor_is_complete(photos, tmp_path):
    output = tmp_path / "out"
    go_on(output, "--input", photos / "0000?.jpg", *NAMED)
    old, old_report = vectors(output), report(output)
    before = kill(output, "--input", photos / "0*.jpg", *NAMED, "--overwrite", at=IMAGES // 2)
    assert (len(old), report(output)) == (10, old_report)
    assert_same_vectors(vectors(output), old)
    with forked("--output", output, "--input", photos / "0*.jpg", *NAMED, "--overwrite") as process:
        while process.poll() is None:
            # A reader that takes the report first, and then the shards that it counts.
            with contextlib.suppress(FileNotFoundError):  # for the moment in which files are named there is no report
                if report(output) == old_report:
                    shards = list(output.glob("embeddings/r/part-*"))
                    assert len(shards) >= old_report["shards"]
            time.sleep(0.05)
        assert process.returncode == 0
    taken_over, own = attempts(output)
    assert (taken_over, taken_over + own) == (len(before), IMAGES)
    assert len(vectors(output)) == IMAGES
    assert_nothing_is_left(output)


def test_a_killed_overwrite_does_not_concern_a_command_without_a_run_id(tmp_path):
    photos, output = tmp_path / "photos", tmp_path / "out"
    data.write_images(photos, 200, height=60, width=80)
    go_on(output, "--input", photos / "0000?.jpg", *NAMED)
    overwrite = "--input", photos, *NAMED, "--overwrite"
    before = kill(output, *overwrite, at=100)
    run = go_on(output, "--input", photos)
    (own,) = {path.stem for path in output.glob("runs/*.json")} - {"r"}
    assert run.stderr == "" and counts(output, own) == {"listed": 200, "embedded": 190, "skipped": 10}
    assert counts(output) == {"listed": 10, "embedded": 10} and sorted(stored(output)) == sorted(before)
    go_on(output, "--input", photos, "--overwrite")
    assert attempts(output)[0] > 0 and counts(output)["listed"] == 200
    assert verify(str(output)).total == 0
    assert_nothing_is_left(output)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_command_and_shows_how_to_go_on(tmp_path, number, code):
    photos, output = tmp_path / "photos of 'mine'", tmp_path / "out"
    data.write_images(photos, 200, height=60, width=80)
    with started(tmp_path / "log", "--input", photos, "--output", output) as process:
        wait_for(lambda: len(stored(output)) >= 60, process)
        process.send_signal(number)
        sent = time.monotonic()
        assert process.wait(30) == code
        assert time.monotonic() - sent < 5
    kept = len(stored(output))
    pattern = (
        r"\nrun_pipeline\.py: interrupted: (\d+) images embedded, (\d+) vectors stored in (.*/embeddings/(.*)); "
        r"to go on: (.* run_pipeline\.py .*)\n"
    )
    shown = re.fullmatch(pattern, (tmp_path / "log").read_text())
    assert shown, (tmp_path / "log").read_text()
    assert int(shown[2]) <= int(shown[1])
    assert 0 <= kept - int(shown[2]) <= 64  # the workers write on until the process ends
    argv = shlex.split(shown[5])
    assert argv[-2:] == ["--run_id", shown[4]]
    assert shown[3] == f"{output}/embeddings/{shown[4]}"
    (claim,) = output.glob("runs/*.unfinished")
    assert claim.stem == shown[4] and json.loads(claim.read_text())["process"] == ""

    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert attempts(output, shown[4]) == [kept, 200 - kept]
    assert_nothing_is_left(output)


def test_a_signal_before_any_work_leaves_nothing(tmp_path):
    photos = tmp_path / "photos"
    data.write_images(photos, 3, height=60, width=80)
    with started(tmp_path / "log", "--input", photos, "--output", tmp_path / "out", "--verbose") as process:
        wait_for(lambda: (tmp_path / "log").read_text() or _has_loaded_beam(process), process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert "interrupted" in (tmp_path / "log").read_text()


def _has_loaded_beam(process: subprocess.Popen) -> bool:
    """Returns whether a process has got as far as to load Beam."""
    maps = Path(f"/proc/{process.pid}/maps")
    return maps.exists() and "apache_beam" in maps.read_text()


def test_of_two_processes_at_one_run_one_wins(tmp_path):
    data.write_images(tmp_path / "photos", 120, height=60, width=80)
    output = tmp_path / "out"
    flags = "--input", tmp_path / "photos", "--output", output, *NAMED
    with forked(*flags) as first, forked(*flags) as second:
        errors = [process.communicate(TIMEOUT)[1] for process in (first, second)]
    codes = [process.returncode for process in (first, second)]
    assert sorted(codes) == [0, 2], errors
    winner = (first, second)[codes.index(0)]
    assert errors[codes.index(2)] == (
        f"run_pipeline.py: --run_id 'r': process {winner.pid} on {os.uname().nodename} is at this run; "
        "wait for it, or give another --run_id\n"
    )
    assert attempts(output) == [120] and counts(output) == {"listed": 120, "embedded": 120}
    assert len(vectors(output)) == 120
    assert_nothing_is_left(output)


def test_a_second_process_leaves_the_parts_of_the_first(tmp_path):
    data.write_images(tmp_path / "photos", 200, height=60, width=80)
    output = tmp_path / "out"
    flags = "--input", tmp_path / "photos", "--output", output
    with forked(*flags, *NAMED) as first:
        wait_for(lambda: len(stored(output)) >= 40, first)
        first.send_signal(signal.SIGSTOP)  # so that it is not done before the others start
        for more in (NAMED, (*NAMED, "--no_resume"), (*NAMED, "--overwrite")):
            second = run_pipeline(output, *flags, *more)
            assert (second.code, second.stderr.count("\n")) == (2, 1), second.stderr
        first.send_signal(signal.SIGCONT)
        assert first.wait(TIMEOUT) == 0
    assert attempts(output) == [200] and len(vectors(output)) == 200
    assert_nothing_is_left(output)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A filesystem of its own with few megabytes."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mounting a filesystem needs root: {mounted.stderr.decode().strip()}")
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


def remount(directory: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", directory], check=True)


def assert_failed_in_one_line(run: Run, code: int, words: str) -> None:
    assert (run.code, run.stdout) == (code, ""), run.stderr
    assert run.stderr.startswith("run_pipeline.py: ") and run.stderr.count("\n") == 1 and words in run.stderr


def test_a_full_disk_costs_what_it_cannot_hold(small_disk, tmp_path):
    data.write_images(tmp_path / "photos", 300, height=60, width=80)  # 300 records of 5 KB
    output = small_disk / "out"
    full = run_pipeline(output, *FLAGS, "--input", tmp_path / "photos", *NAMED, timeout=TIMEOUT)
    assert_failed_in_one_line(full, 1, "No space left on device")
    assert not list(output.glob("*/*/part-*")) and not list(output.glob("runs/*.json"))
    kept = len(stored(output))
    assert kept > 50
    still = run_pipeline(output, *FLAGS, "--input", tmp_path / "photos", *NAMED, timeout=TIMEOUT)
    assert still.code in (1, 2) and still.stderr.count("\n") == 1 and "No space left on device" in still.stderr
    assert len(stored(output)) >= kept
    remount(small_disk, "size=8m")
    go_on(output, "--input", tmp_path / "photos", *NAMED)
    assert counts(output) == {"listed": 300, "embedded": 300} and len(vectors(output)) == 300
    assert attempts(output)[0] >= kept - 1 and sum(attempts(output)) == 300
    assert_nothing_is_left(output)


def test_an_output_that_becomes_read_only(small_disk, tmp_path):
    remount(small_disk, "size=8m")
    data.write_images(tmp_path / "photos", 200, height=60, width=80)
    output = small_disk / "out"
    flags = "--input", tmp_path / "photos", *NAMED
    before = kill(output, *flags, at=60)
    remount(small_disk, "ro")
    refused = run_pipeline(output, *FLAGS, *flags)
    assert_failed_in_one_line(refused, 2, "Read-only file system")
    assert sorted(stored(output)) == sorted(before)
    remount(small_disk, "rw")
    go_on(output, *flags)
    assert attempts(output) == [len(before), 200 - len(before)]
    assert_nothing_is_left(output)


def test_in_a_bucket_parts_are_closed_in_time(cloud, tmp_path):
    storage.Client().create_bucket("resume")
    data.write_images(tmp_path / "photos", 300, height=60, width=80)
    output = cloud.buckets / "resume" / "out"
    environment = os.environ | cloud.environment
    flags = "--output", "gs://resume/out", "--input", tmp_path / "photos", *NAMED, "--checkpoint_seconds", "1"
    with forked(*flags, env=environment) as process:
        wait_for(lambda: len(stored(output)) >= 150, process)
    before = stored(output)
    run = run_pipeline(output, *FLAGS, *flags, env=environment, timeout=TIMEOUT)
    assert run.code == 0, run.stderr
    assert attempts(output) == [len(before), 300 - len(before)]
    assert counts(output) == {"listed": 300, "embedded": 300} and len(vectors(output)) == 300
    assert not list(storage.Client().list_blobs("resume", prefix="out/embeddings/r/.parts/"))
    names = {blob.name.partition("/")[2] for blob in storage.Client().list_blobs("resume", prefix="out/")}
    of_run = {f"runs/r.{suffix}" for suffix in ("html", "json", "statistics")}
    assert {name for name in names if "/part-" not in name} == {"schema.pbtxt", *of_run}


def test_a_signal_stores_the_open_parts_of_a_bucket(cloud, tmp_path):
    storage.Client().create_bucket("signal")
    data.write_images(tmp_path / "photos", 1200, height=60, width=80)
    output = cloud.buckets / "signal" / "out"
    environment = os.environ | cloud.environment
    flags = "--output", "gs://signal/out", "--input", tmp_path / "photos", *NAMED
    with on_terminal(*flags, env=environment) as (process, terminal):
        wait_for(lambda: terminal.done >= 100, process)
        assert stored(output) == []  # --checkpoint_seconds have not passed
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    kept = len(stored(output))
    pattern = r"interrupted: (\d+) images embedded, (\d+) vectors stored in gs://signal/out/embeddings/r; to go on: "
    shown = re.search(pattern, terminal.text)
    assert shown and 100 <= int(shown[2]) <= int(shown[1]), terminal.text
    assert 0 <= kept - int(shown[2]) <= 64  # the workers write on until the process ends
    run = run_pipeline(output, *FLAGS, *flags, env=environment, timeout=TIMEOUT)
    assert run.code == 0, run.stderr
    assert attempts(output) == [kept, 1200 - kept]


def test_a_table_without_an_output_goes_on_from_its_temporary_parts(cloud, tmp_path):
    bq, client = bigquery.Client(project="test"), storage.Client()
    bq.create_dataset("test.resumed")
    bucket, temp = client.create_bucket("resume_photos"), "resume_temp"
    client.create_bucket(temp)
    for i in range(200):
        bucket.blob(f"photos/{i:03d}.jpg").upload_from_string(data.jpeg(i, 24, 32))
    bucket.blob("photos/copy.jpg").upload_from_string(data.jpeg(7, 24, 32))
    environment = os.environ | cloud.environment
    flags = "--input=gs://resume_photos/photos/", "--output_table=test:resumed.images", "--read_concurrency=4"
    flags += f"--temp_location=gs://{temp}/jobs", "--checkpoint_seconds=1"
    place = cloud.buckets / temp / "jobs"

    def parts() -> list[bytes]:
        return [key for directory in place.glob("*") for key in stored(directory)] if place.exists() else []

    with forked(*flags, *NAMED, env=environment) as process:
        wait_for(lambda: len(parts()) >= 100, process)
    before = len(parts())
    assert not list(bq.query("SELECT key FROM resumed.images").result())  # no row before the transaction

    done = fork_server.run([*FLAGS, *flags, *NAMED], environment, TIMEOUT)
    assert done.returncode == 0, done.stderr
    (row,) = bq.query("SELECT report FROM resumed.images_runs").result()
    published = json.loads(row["report"])
    assert list(published["attempts"].values()) == [before, 201 - before]
    assert {name: n for name, n in published["counts"].items() if n} == {"listed": 201, "embedded": 200, "duplicate": 1}
    keys = [row["key"] for row in bq.query("SELECT key FROM resumed.images").result()]
    assert len(keys) == len(set(keys)) == 201
    assert not list(client.list_blobs(temp))
