"""The command with decoder processes: the same records as without, whatever becomes of the processes."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.helpers import data_generation as data
from tests.helpers.decoder_pools import HOSTILE
from tests.helpers.running import ROOT, command, read_rows, run_pipeline

pytestmark = pytest.mark.slow

PROCESSES = "--decode_processes", "2"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photographs, a copy, a broken file, and names that are no text."""
    photos = tmp_path_factory.mktemp("photos")
    data.write_images(photos, 30, height=40, width=60)
    (photos / "copy.jpg").write_bytes(next(photos.glob("*0.jpg")).read_bytes())
    (photos / "broken.jpg").write_bytes(b"no image")
    Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9.jpg")).write_bytes(data.jpeg(99, 40, 60))
    return photos


def records(run):
    return {row["image/key"]: {**row, "embedding": row["embedding"].tolist()} for row in run.rows}


def outcome(run):
    return run.code, run.counts, records(run), sorted((f["key"], f["stage"], f["error"]) for f in run.failures)


def test_the_same_records_as_without(photos, tmp_path):
    with_threads = run_pipeline(tmp_path / "threads", "--input", photos)
    with_processes = run_pipeline(tmp_path / "processes", "--input", photos, *PROCESSES)
    assert outcome(with_processes) == outcome(with_threads)
    assert with_processes.counts["failed"] == 1 and with_processes.counts["duplicate"] == 1


def test_images_in_shards_get_the_vectors_that_threads_give(tmp_path):
    shard = data.write_tar(
        tmp_path / "s.tar", {f"{i:02}.jpg": data.jpeg(i, 40, 60) for i in range(40)} | {"broken.jpg": b"no image"}
    )
    flags = "--input", shard, "--input_format", "tar"
    with_threads, with_processes = (
        run_pipeline(tmp_path / name, *flags, *more) for name, more in (("threads", ()), ("processes", PROCESSES))
    )
    assert outcome(with_processes) == outcome(with_threads) and with_processes.counts["embedded"] == 40


def test_an_image_that_hangs_costs_itself_alone(photos, tmp_path, monkeypatch):
    images, start = tmp_path / "images", tmp_path / "start"
    images.mkdir(), start.mkdir()
    for path in photos.glob("*0.jpg"):
        (images / path.name).write_bytes(path.read_bytes())
    (images / "hold.jpg").write_bytes(data.jpeg(98, 40, 60) + b"hold")
    only_there = "import sys\nif 'transforms.decoders.process' in sys.orig_argv:\n"
    (start / "sitecustomize.py").write_text(only_there + textwrap.indent(HOSTILE, "    "))
    monkeypatch.setenv("PYTHONPATH", str(start))
    run = run_pipeline(tmp_path / "out", "--input", images, *PROCESSES, "--decode_timeout", "2", fresh=True)
    (failure,) = run.failures
    assert (run.code, Path(failure["key"]).name, failure["error"]) == (0, "hold.jpg", "TookTooLong"), run.stderr
    assert run.counts["embedded"] == len(list(images.iterdir())) - 1


def decoders(pid):
    """Returns the ids of the decoder processes of a process."""
    children = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [child for of_thread in children for child in map(int, of_thread) if b"decoders" in cmdline(child)]


def cmdline(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_decoder_processes_that_are_killed_cost_no_image(tmp_path):
    photos, output = tmp_path / "photos", tmp_path / "out"
    data.write_images(photos, 1200, height=40, width=60)
    run = subprocess.Popen(
        [*command("--input", photos, "--output", output, *PROCESSES)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    killed = set()
    while run.poll() is None and len(killed) < 4:
        for pid in set(decoders(run.pid)) - killed:
            time.sleep(0.5)  # it starts in less
            with contextlib.suppress(ProcessLookupError):  # the run is over
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(0.05)
    stdout, _ = run.communicate(timeout=120)
    assert run.returncode == 0 and len(killed) >= 3, (killed, stdout)
    assert len({row["image/key"] for row in read_rows(output)}) == 1200
    assert "1200 images listed = 1200 embedded + 0 failed" in stdout
    assert sys.platform != "linux" or not any(cmdline(pid) for pid in killed)
