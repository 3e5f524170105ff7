"""The command on hostile images: a broken picture is a failure, and large pictures take turns."""

import subprocess
import sys
from collections import Counter

import pytest

from tests.helpers import data_generation as data
from tests.helpers import hostile_images as hostile
from tests.helpers.running import ROOT, Run, command, run_pipeline

pytestmark = pytest.mark.slow


def test_pngs_with_a_flipped_byte_are_failures(tmp_path):
    photos = tmp_path / "photos"
    data.write_images(photos, 5)
    for number, content in enumerate(hostile.flipped_pngs(60)):
        (photos / f"flipped_{number}.png").write_bytes(content)
    run = run_pipeline(tmp_path / "out", "--input", photos)
    assert run.code == 0, run.stderr
    assert run.counts == {"listed": 65, "embedded": 5, "failed": 60}
    assert Counter((failure["stage"], failure["error"]) for failure in run.failures) == {("decode", "CorruptImage"): 60}


# Runs a command, and prints its exit code and the peak of its memory in bytes.
MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


def test_large_images_take_turns(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    images = {name: content for name, content in hostile.large_images(9400).items() if name != "lossless.webp"}
    for copy in range(4):
        for name, content in images.items():
            # Bytes behind the image make each file another.
            (photos / f"{copy}_{name}").write_bytes(content + bytes([copy]))
    flags = ["--output", tmp_path / "out", "--input", photos, "--direct_num_workers", 16]
    argv = [sys.executable, "-c", MEASURE, *command(*flags)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
    code, peak = map(int, done.stdout.split())
    assert code == 0, done.stderr
    assert Run(code, "", "", tmp_path / "out").counts == {"listed": 12, "embedded": 12}
    # 1 GiB for decoding, 0.5 GiB for the command itself, and what glibc keeps for 16 threads. Measured: 1.5 GiB.
    assert peak < 2 << 30
