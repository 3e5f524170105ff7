"""Disks that fail: one that is full, and an output that vanishes under a run. Needs root, to mount a disk."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.helpers import data_generation as data
from tests.helpers.running import ROOT, command, read_rows
from tests.torture.outcome import Outcome, check

_IMAGES = 600  # 5 KB of a vector each


def can_mount() -> bool:
    """Returns whether this process may mount a filesystem."""
    if os.geteuid() or not shutil.which("mount"):
        return False
    with (
        tempfile.TemporaryDirectory() as scratch,
        contextlib.suppress(subprocess.CalledProcessError),
        small_disk(Path(scratch), 1),
    ):
        return True
    return False


@contextlib.contextmanager
def small_disk(directory: Path, mebibytes: int) -> Iterator[Path]:
    """Mounts a disk in memory of some size over a directory, until the block ends."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", directory], check=True, capture_output=True
    )
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True, capture_output=True)


def run(scratch: Path) -> list[Outcome]:
    """Fills a disk under a run, and removes the output of another. Raises Broken."""
    photos, disk = scratch / "photos", scratch / "disk"
    data.write_images(photos, _IMAGES, height=48, width=64)
    disk.mkdir()
    argv = command("--input", photos, "--output", disk / "out", "--run_id", "r")

    with small_disk(disk, 2):
        failed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        _check_failed(failed, disk / "out", "No space left on device")
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True, capture_output=True)
        _check_goes_on(argv, disk / "out")

    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(disk.glob("out/embeddings/r/.parts/*.tfrecord")):
        check(process.poll() is None, "the run ended before its output vanished")
        time.sleep(0.05)
    shutil.rmtree(disk / "out")
    stdout, stderr = process.communicate()
    done = subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)
    _check_failed(done, disk / "out", "was the output removed?")
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    check(done.returncode == 0 and f"{_IMAGES} images listed = {_IMAGES} embedded" in done.stdout, done)

    return [
        Outcome("a full disk", "`tests.torture.disks`: 2 MiB for 3 MiB of vectors", 1, "one line; the command goes on"),
        Outcome(
            "an output that is removed under a run", "`tests.torture.disks`", 1, "one line; the command starts over"
        ),
    ]


def _check_failed(done: subprocess.CompletedProcess, output: Path, reason: str) -> None:
    lines = done.stderr.strip().splitlines()
    check(done.returncode == 1 and reason in lines[-1] and len(lines) <= 2, done)
    check(not list(output.glob("runs/*.json")), "a run that failed has a report")
    check(not list(output.glob("embeddings/r/part-*")), "a run that failed has files with final names")


def _check_goes_on(argv: list[str], output: Path) -> None:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    check(done.returncode == 0 and "from earlier attempts" in done.stdout, done)
    keys = [row["image/key"] for row in read_rows(output, "r")]
    check(len(keys) == len(set(keys)) == _IMAGES, f"{len(keys)} records")
