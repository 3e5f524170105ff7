"""transforms.free_memory: what is free is given back."""

import subprocess
import sys

import pytest

from tests.running import ROOT

# Blocks of a size that Python leaves to the C library, all freed but the last, above which there is nothing to trim.
CHILD = """
from pathlib import Path
from transforms import free_memory

def resident_kib():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmRSS"))

blocks = [bytes(2000) for _ in range(50_000)]
last = blocks.pop()
del blocks
before = resident_kib()
assert free_memory.give_back()
print(before - resident_kib())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_what_is_free_is_given_back():
    done = subprocess.run([sys.executable, "-c", CHILD], cwd=ROOT, check=True, capture_output=True, text=True)
    assert int(done.stdout) > 50_000
