"""An image that kills the process: it is named, and after the second death it is a failure, and the run ends."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import data_generation as data
from tests.helpers.running import ROOT, read_rows

pytestmark = pytest.mark.slow

# Runs the command, and dies by a fault in C when it decodes the deadly image.
SCRIPT = """
import ctypes
from pipeline.__main__ import run_command
from transforms.images import decoding

decode = decoding.decode_into

def die(encoded, *args, **kwargs):
    if encoded.endswith(b"deadly"):
        ctypes.string_at(0)
    return decode(encoded, *args, **kwargs)

decoding.decode_into = die
run_command()
"""


@pytest.mark.parametrize("is_replaced", [False, True], ids=["the same image", "another in its place"])
def test_an_image_that_kills_the_process_twice_is_a_failure(tmp_path, is_replaced):
    photos, output = tmp_path / "photos", tmp_path / "out"
    data.write_images(photos, 40, height=60, width=80)
    deadly = photos / "deadly\n<b>.jpg"
    deadly.write_bytes(data.jpeg(99) + b"deadly")

    def run():
        flags = "--input", photos, "--output", output, "--run_id", "r"
        return subprocess.run(
            [sys.executable, "-c", SCRIPT, *map(str, flags)], cwd=ROOT, capture_output=True, text=True, check=False
        )

    first, second = run(), run()
    if is_replaced:
        deadly.write_bytes(data.jpeg(98))
    third = run()
    assert first.returncode == second.returncode == -signal.SIGSEGV
    assert repr(str(deadly)) in second.stderr and "if that happens again, it is left out" in second.stderr
    assert repr(str(deadly)) in third.stderr and "it is left out now, and becomes a failure" in third.stderr
    assert third.returncode == 0, third.stderr
    assert not list(output.rglob(".parts"))
    if is_replaced:
        assert len(read_rows(output)) == 41
        return
    (line,) = Path(output, "failures", "r", "part-00000-of-00001.jsonl").read_text().splitlines()
    failure = json.loads(line)
    assert (failure["key"], failure["stage"], failure["error"]) == (str(deadly), "decode", "KilledTheProcess")
    assert failure["message"] == "twice, when a process of this run died, it was decoding this image"
    assert len(read_rows(output)) == 40
    assert json.loads(Path(output, "runs", "r.json").read_text())["counts"]["failed"] == 1
