"""A process that has imported Beam and the command, and forks for each run: two seconds of CPU less than a start.

A run is as good as one in a fresh process: the server has read the same environment and has called nothing. Its
imports leave no threads but those of OpenBLAS and jemalloc, which handle forks themselves. A run differs from a fresh
process in its start, so tests of start-up, signals, imports and logs start the command itself.
"""

import atexit
import contextlib
import copy
import functools
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


class ForkServer:
    """The server's client, in the tests' process; the server ends when this is closed, or its process has ended."""

    def __init__(self, environment: Mapping[str, str]):
        self.environment = dict(environment)
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())],
                cwd=ROOT,
                env=self.environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def run(
        self, flags: Sequence[str], timeout: float, started: Callable[[int], None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs the command with `flags` to its end, as `subprocess.run` would with `capture_output`.

        Args:
          flags: of the command.
          timeout: in seconds.
          started: gets the id of the process that runs the command.

        Raises:
          subprocess.TimeoutExpired: after `timeout` seconds; the run is killed.
        """
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            self._connection.settimeout(60)  # a server that is new has its imports before it
            request = json.dumps(flags).encode() + b"\n"
            socket.send_fds(self._connection, [request], [stdout.fileno(), stderr.fileno()])
            pid = self._reply()
            if started:
                started(pid)
            self._connection.settimeout(timeout)
            try:
                code = self._reply()
            except TimeoutError as error:
                os.kill(pid, signal.SIGKILL)
                self._connection.settimeout(60)
                self._reply()
                raise subprocess.TimeoutExpired(list(flags), timeout) from error
            for stream in (stdout, stderr):
                stream.seek(0)
            return subprocess.CompletedProcess(list(flags), code, stdout.read(), stderr.read())

    def close(self) -> None:
        self._connection.close()
        self._process.wait(60)

    def _reply(self) -> int:
        reply = b""
        while not reply.endswith(b"\n"):
            block = self._connection.recv(64)
            if not block:
                raise RuntimeError(f"the fork server ended with {self._process.wait(60)}")
            reply += block
        return int(reply)


_current: ForkServer | None = None


def run(
    flags: Sequence[str],
    environment: Mapping[str, str],
    timeout: float,
    started: Callable[[int], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs the command by a server that was started in this very environment; starts one where there is none.

    One server is kept, the last: most tests of a module have one environment.
    """
    global _current
    environment = {name: value for name, value in environment.items() if name != "PYTEST_CURRENT_TEST"}
    if _current is None or _current.environment != environment:
        if _current:
            _current.close()
            atexit.unregister(_current.close)
        _current = ForkServer(environment)
        atexit.register(_current.close)
    return _current.run(flags, timeout, started)


def _requests(connection: socket.socket) -> Iterator[tuple[list[str], list[int]]]:
    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, 2**16, 2)
        while request and not request.endswith(b"\n"):
            request += connection.recv(2**16)
        if not request:
            return
        yield json.loads(request), descriptors


def _memoize() -> None:
    """Lets Beam inspect each function and parse each view of the options once: a third of the CPU of a small run.

    Both are pure. Beam does them some fifty thousand and some two thousand times in a run.
    """
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.transforms import core
    from apache_beam.typehints import decorators

    decorators.get_signature = core.get_signature = functools.lru_cache(maxsize=None)(decorators.get_signature)
    of_command_line, parsed = PipelineOptions.__init__, {}

    def of_same_command_line(self: PipelineOptions, flags: Sequence[str] | None = None, **overrides: Any) -> None:
        key = type(self), None if flags is None else tuple(flags)
        if flags is None or overrides or key not in parsed:
            of_command_line(self, flags, **overrides)
            if flags is not None and not overrides:
                parsed[key] = copy.deepcopy(self._visible_options)
            return
        self._flags = flags
        self._visible_options = copy.deepcopy(parsed[key])
        self._all_options = {name: getattr(self._visible_options, name) for name in self._visible_option_list()}

    PipelineOptions.__init__ = of_same_command_line


def _serve(connection: socket.socket) -> int:
    """Forks for each request until the client is gone; in a child, runs the command and returns its exit code."""
    import apache_beam  # noqa: F401 - with `graph`, all that a run imports before it knows its model

    from pipeline import graph, launch  # noqa: F401

    _memoize()
    gc.freeze()
    if threading.active_count() > 1 or "tensorflow" in sys.modules:
        raise RuntimeError(f"not fit to fork: {threading.enumerate()}, tensorflow={'tensorflow' in sys.modules}")
    for flags, descriptors in _requests(connection):
        pid = os.fork()
        if not pid:
            connection.close()
            for target, descriptor in enumerate(descriptors, 1):
                os.dup2(descriptor, target)
                os.close(descriptor)
            sys.argv = ["run_pipeline.py", *flags]
            return launch.main()
        for descriptor in descriptors:
            os.close(descriptor)
        connection.sendall(b"%d\n" % pid)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(b"%d\n" % code)
    return 0


if __name__ == "__main__":
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.setblocking(True)  # Beam sets a default timeout in the tests' process, with which sockets are made
    sys.exit(_serve(connection))
