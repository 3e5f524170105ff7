"""The command as a process on a host of its own, which may stop itself just before a named operation on a file.

Two such processes share a directory, and take each other for processes of other machines. None gives a sign of life, so
that one which is stopped is taken for dead soon, and is not stopped while it holds the lock of the claims.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.helpers.killing import FLAGS, TIMEOUT
from tests.helpers.running import ROOT

_BEAT_SECONDS, _SILENT_SECONDS = 3600.0, 2.0


@contextlib.contextmanager
def started(
    host: str, *flags: object, stop_at: str = "", env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Starts the command on a host, and kills it at the end of the block.

    Args:
      host: the name that the process takes for that of its host.
      flags: of the command.
      stop_at: a regular expression for `EVENT PATH…`, an audit event of Python and its paths, as in
        `os.rename .*/runs/r.json`. The process stops itself just before the first such operation.
      env: the whole environment; this process's by default.
    """
    argv = [sys.executable, "-m", "tests.helpers.stopping", host, stop_at, *FLAGS, *map(str, flags)]
    process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def is_stopped(process: subprocess.Popen) -> bool:
    """Returns whether a process has been stopped; fails if it has ended."""
    assert process.poll() is None, process.communicate()
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def wait_until_stopped(process: subprocess.Popen) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not is_stopped(process):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def run(host: str, *flags: object, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Runs the command on a host to its end; returns its exit code and all that it said."""
    with started(host, *flags, env=env) as process:
        stdout, stderr = process.communicate(timeout=TIMEOUT)
        return process.returncode, stdout + stderr


def wake(process: subprocess.Popen) -> tuple[int, str]:
    """Wakes a process that was stopped, and waits for its end, as `run` does."""
    process.send_signal(signal.SIGCONT)
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    return process.returncode, stdout + stderr


def _stop_at(pattern: str) -> None:
    """Lets this process stop before the first operation that a pattern matches."""
    is_it, left = re.compile(pattern).match, [True]

    def hook(event: str, args: tuple[object, ...]) -> None:
        if left and event in ("open", "os.rename", "os.link", "os.remove"):
            paths = [os.fsdecode(arg) for arg in args if isinstance(arg, str | bytes | os.PathLike)]
            if is_it(" ".join([event, *paths])) and left.pop():
                # Not by os.kill, which may stop another thread first, and this one after the operation.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    sys.addaudithook(hook)


def _main(host: str, stop_at: str, *flags: str) -> None:
    from pipeline.__main__ import run_command
    from pipeline.attempts import claim

    socket.gethostname = lambda: host
    claim._BEAT_SECONDS, claim._SILENT_SECONDS = _BEAT_SECONDS, _SILENT_SECONDS
    if stop_at:
        _stop_at(stop_at)
    sys.argv = ["run_pipeline.py", *flags]
    run_command()


if __name__ == "__main__":
    _main(*sys.argv[1:])
