"""pipeline.allocator: what is freed goes back to the system."""

import subprocess
import sys

import pytest

from tests.running import ROOT

# Many threads, each with an arena of its own, free buffers of the size of images under one that stays.
CHILD = """
import resource, sys, threading
from pathlib import Path
from pipeline import allocator

if sys.argv[1] == "told":
    assert allocator.give_back_what_is_free()
staying = []

def work():
    bytearray(16 * 2**20)  # from now on glibc would keep buffers of that size
    for _ in range(3):
        buffers = [bytearray(b"x") * 2**20 for _ in range(8)]
        staying.append(bytearray(100))
        del buffers

for _ in range(8):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line))
"""


def _resident_kib(told):
    done = subprocess.run([sys.executable, "-c", CHILD, told], cwd=ROOT, check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_buffers_are_given_back():
    assert _resident_kib("told") < 0.7 * _resident_kib("not told")
