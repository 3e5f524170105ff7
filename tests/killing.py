"""The command as a process that is really killed, and what it had stored by then."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.running import ROOT, command
from transforms.encoding import examples, tfrecord

# Small batches, so that records come at a steady rate.
FLAGS = ("--batch_size=4",)
# A machine that is busy with other tests takes its time.
TIMEOUT = 240


def stored(output: Path) -> list[bytes]:
    """Returns the keys of all whole records in the parts below an output, without those that repeat others."""
    records: list[bytes] = []
    for path in output.glob("embeddings/*/.parts/*.tfrecord"):
        if "-resumed-" in path.name:
            continue
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            records += tfrecord.read_whole(file, 2**26)
    return [identity.key for identity in examples.decode_identities(records)]


def wait_for(condition: Callable[[], object], process: subprocess.Popen) -> None:
    """Waits until a condition holds, while a process lives."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def started(log: Path, *flags: object, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """Starts the command, with stderr in a file, and kills it at the end of the block."""
    with log.open("w") as file:
        process = subprocess.Popen(command(*FLAGS, *flags), cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def kill(output: Path, *flags: object, at: int) -> list[bytes]:
    """Kills the command once `at` vectors are stored or more, and returns the keys of those that are."""
    with started(output.parent / "log", "--output", output, *flags) as process:
        wait_for(lambda: len(stored(output)) >= at, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    return stored(output)
