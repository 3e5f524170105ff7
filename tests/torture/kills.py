"""Kills: one job is killed at random moments, and the same command goes on each time."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.helpers import data_generation as data
from tests.helpers.running import ROOT, read_rows
from tests.torture.outcome import Outcome, check

# Runs the command, and adds the size of each batch that the model embeds to a file.
_COUNTING = """
import os, sys
from pipeline.__main__ import run_command
from transforms.models.engines import loading

timed, log = loading.EmbeddingModel.timed, os.open(sys.argv.pop(1), os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def count(model, pixels):
    call = timed(model, pixels)
    os.write(log, b"%d\\n" % len(pixels))
    return call

loading.EmbeddingModel.timed = count
run_command()
"""


def run(scratch: Path, images: int = 2000, kills: int = 10, seed: int = 0) -> Outcome:
    """Kills a job of some images several times, each time at a random moment, and lets it finish. Raises Broken."""
    photos, output, log = scratch / "photos", scratch / "out", scratch / "embedded"
    data.write_images(photos, images, height=48, width=64)
    chance = random.Random(seed)
    command = [sys.executable, "-c", _COUNTING, log, "--input", photos, "--output", output, "--run_id", "killed"]
    # Each attempt is killed once so many images are embedded, and a moment later.
    for number in sorted(chance.sample(range(images - 200), kills)):
        process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        while _embedded(log) < number:
            check(process.poll() is None, f"the run ended before image {number}")
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    check(last.returncode == 0, last.stderr)
    keys = [row["image/key"] for row in read_rows(output, "killed")]
    check(len(keys) == len(set(keys)) == images, f"{len(keys)} records of {len(set(keys))} keys, expected {images}")
    check(not list(output.rglob(".parts")), "parts are left behind")
    verify = [sys.executable, "-m", "pipeline", "verify", "--output", str(output), "--input", str(photos)]
    verified = subprocess.run(verify, cwd=ROOT, capture_output=True, text=True, check=False)
    check(verified.returncode == 0, verified.stdout)
    twice = _embedded(log) - images
    return Outcome(
        f"SIGKILL at random moments of a job of {images:,} images",
        "`tests.torture.kills`, the same command after each",
        kills,
        f"{images:,} distinct keys, `verify` finds nothing; {twice} images embedded twice in all",
    )


def _embedded(log: Path) -> int:
    return sum(map(int, log.read_text().split())) if log.exists() else 0
