"""A process that has imported Beam and the command, and forks for each run: four seconds of CPU less than a start.

A run is as good as one in a fresh process: the server has read the same environment, and has called nothing but
`quick_beam`. Its imports leave no threads but those of OpenBLAS and jemalloc, which handle forks themselves. A run
differs from a fresh process in its start, so tests of start-up, signals, imports and logs start the command itself.
"""

import atexit
import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]


class Forked:
    """A run that a server has forked, as `subprocess.Popen` would show it.

    Attributes:
      pid: the id of the process that runs the command.
      returncode: None until `poll`, `wait` or `communicate` has seen the end.
    """

    def __init__(self, flags: list[str], stdout: IO[str], stderr: IO[str], replies: int):
        self.args = flags
        self.returncode: int | None = None
        self._streams = stdout, stderr
        self._replies = replies
        self.pid = self._reply(60)  # a server that is new has its imports before it

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Returns the exit code; raises subprocess.TimeoutExpired after `timeout` seconds."""
        if self.returncode is None:
            self.returncode = self._reply(timeout)
            os.close(self._replies)
        return self.returncode

    def communicate(self, timeout: float = 60) -> tuple[str, str]:
        """Waits for the end, and returns the text of stdout and stderr."""
        self.wait(timeout)
        texts = []
        for stream in self._streams:
            stream.seek(0)
            texts.append(stream.read())
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _reply(self, timeout: float) -> int:
        if not select.select([self._replies], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout)
        reply = b""
        while not reply.endswith(b"\n"):
            byte = os.read(self._replies, 1)
            if not byte:
                raise RuntimeError(f"the fork server has ended, after {reply!r}")
            reply += byte
        return int(reply)


class ForkServer:
    """The server's client, in the tests' process; the server ends when this is closed, or its process has ended."""

    def __init__(self, environment: Mapping[str, str]):
        self.environment = dict(environment)
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.helpers.fork_server", str(theirs.fileno())],
                cwd=ROOT,
                env=self.environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def start(self, flags: Sequence[str]) -> Forked:
        """Starts the command with `flags`, beside others that still run."""
        stdout, stderr = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115 - they go with the Forked
        replies, theirs = os.pipe()
        request = json.dumps(flags).encode() + b"\n"
        socket.send_fds(self._connection, [request], [stdout.fileno(), stderr.fileno(), theirs])
        os.close(theirs)
        return Forked(list(flags), stdout, stderr, replies)

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
        run = self.start(flags)
        if started:
            started(run.pid)
        try:
            stdout, stderr = run.communicate(timeout)
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait(60)
            raise
        return subprocess.CompletedProcess(run.args, run.returncode, stdout, stderr)

    def close(self) -> None:
        self._connection.close()
        self._process.wait(60)


# The last two: tests with one environment for all runs, and another for a run through a proxy, come back to the first.
_servers: list[ForkServer] = []


def _server(environment: Mapping[str, str]) -> ForkServer:
    """Returns a server that was started in this very environment; starts one where there is none."""
    environment = {name: value for name, value in environment.items() if name != "PYTEST_CURRENT_TEST"}
    for server in _servers:
        if server.environment == environment:
            _servers.remove(server)
            break
    else:
        if not _servers:
            atexit.register(_close)
        server = ForkServer(environment)
    _servers.append(server)
    while len(_servers) > 2:
        _servers.pop(0).close()
    return server


def _close() -> None:
    while _servers:
        _servers.pop().close()


def run(
    flags: Sequence[str],
    environment: Mapping[str, str],
    timeout: float,
    started: Callable[[int], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs the command by a server that was started in this very environment: `ForkServer.run`."""
    return _server(environment).run(flags, timeout, started)


def start(flags: Sequence[str], environment: Mapping[str, str]) -> Forked:
    """Starts the command by a server that was started in this very environment: `ForkServer.start`."""
    return _server(environment).start(flags)


def _requests(connection: socket.socket) -> Iterator[tuple[list[str], list[int]]]:
    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, 2**16, 3)
        while request and not request.endswith(b"\n"):
            request += connection.recv(2**16)
        if not request:
            return
        yield json.loads(request), descriptors


def _serve(connection: socket.socket) -> int:
    """Forks for each request until the client is gone; in a child, runs the command."""
    import apache_beam  # noqa: F401 - with `graph`, all that a run imports before it knows its model

    from pipeline import graph, launch  # noqa: F401
    from pipeline.__main__ import run_command
    from tests.helpers import quick_beam

    quick_beam.install()
    gc.collect()
    gc.freeze()  # the collector of a run need not look at what the server has imported
    if threading.active_count() > 1 or "tensorflow" in sys.modules:
        raise RuntimeError(f"not fit to fork: {threading.enumerate()}, tensorflow={'tensorflow' in sys.modules}")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for the runs
    for flags, (stdout, stderr, replies) in _requests(connection):
        if not os.fork():
            connection.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            pid = os.fork()
            if not pid:
                os.close(replies)
                for target, descriptor in ((1, stdout), (2, stderr)):
                    os.dup2(descriptor, target)
                    os.close(descriptor)
                sys.argv = ["run_pipeline.py", *flags]
                sys.orig_argv = ["python", *sys.argv]
                run_command()
            os.write(replies, b"%d\n" % pid)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with contextlib.suppress(BrokenPipeError):
                os.write(replies, b"%d\n" % code)
            os._exit(0)
        for descriptor in (stdout, stderr, replies):
            os.close(descriptor)
    return 0


if __name__ == "__main__":
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.setblocking(True)  # Beam sets a default timeout in the tests' process, with which sockets are made
    sys.exit(_serve(connection))
