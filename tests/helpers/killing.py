"""The command as a process that is really killed, and what it had stored by then."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.helpers import fork_server
from tests.helpers.running import ROOT, command
from transforms.encoding import record_files
from transforms.output.layout import VECTOR_SUFFIXES

# Small batches, so that records come at a steady rate.
FLAGS = ("--batch_size=4",)
# A machine that is busy with other tests takes its time.
TIMEOUT = 240


def stored(output: Path) -> list[bytes]:
    """Returns the keys of all whole records in the parts below an output, without those that repeat others."""
    records: list[bytes] = []
    for path in output.glob("embeddings/*/.parts/*"):
        if "-resumed-" in path.name or not path.name.endswith(VECTOR_SUFFIXES):
            continue
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            whole = record_files.identities(path.name, file, vector_type="float16", may_break_off=True)
            records += [own.key for _, own in whole]
    return records


def wait_for(condition: Callable[[], object], process: subprocess.Popen | fork_server.Forked) -> None:
    """Waits until a condition holds, while a process lives."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def started(log: Path, *flags: object) -> Iterator[subprocess.Popen]:
    """Starts the command as a user does, with stderr in a file, and kills it at the end of the block."""
    with log.open("w") as file:
        process = subprocess.Popen(command(*FLAGS, *flags), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def forked(*flags: object, env: Mapping[str, str] | None = None) -> Iterator[fork_server.Forked]:
    """Starts the command by a fork server, and kills it at the end of the block."""
    process = fork_server.start([*FLAGS, *map(str, flags)], os.environ if env is None else env)
    try:
        yield process
    finally:
        process.kill()
        process.wait(TIMEOUT)


def kill(output: Path, *flags: object, at: int) -> list[bytes]:
    """Kills the command once `at` vectors are stored or more, and returns the keys of those that are."""
    with forked("--output", output, *flags) as process:
        wait_for(lambda: len(stored(output)) >= at, process)
    return stored(output)
