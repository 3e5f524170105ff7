"""transforms.decoders.process: a small process. tests/transforms/decoders/test_pool.py shows what it does."""

import os
import subprocess
import sys
import threading

import pytest

from tests.running import ROOT
from transforms.decoders import process, shared_memory
from transforms.decoders.shared_memory import SharedMemory

IMPORTED = """
import sys
import transforms.decoders.process
print(*{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.slow
def test_it_is_small():
    done = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert imported >= {"numpy", "PIL"}
    assert not imported & {"apache_beam", "tensorflow", "pyarrow", "openvino", "requests"}


def test_large_images_of_several_processes_take_turns(tmp_path):
    """Two budgets of one process cannot exclude each other by a lock of files, so the other one is a process."""
    descriptor = shared_memory.create()
    state = SharedMemory(descriptor, 1, 1, (1, 1))
    os.close(descriptor)
    with open(tmp_path / "turns", "w+b") as turns:
        budget = process._Turns(100, turns.fileno(), state)
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(turns.fileno())],
            pass_fds=(turns.fileno(),),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert holder.stdout.readline() == "holds\n"
        state.begin(1, 0)
        budget.take(99)  # small enough to be decoded beside others
        budget.give_back(99)
        took = threading.Event()
        thread = threading.Thread(target=lambda: (budget.take(100), took.set()))
        thread.start()
        assert not took.wait(0.5) and state.at_work() is None  # while it waits, no time counts against the image
        holder.communicate("end")
        assert took.wait(30) and state.at_work()[:2] == (1, 0)
        thread.join()
        budget.give_back(100)


HOLD = """
import fcntl, sys
fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)
print("holds", flush=True)
sys.stdin.read()
"""
