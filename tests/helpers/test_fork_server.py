"""tests.helpers.fork_server: a forked run is a run of the command."""

import os
import signal
import socket
import subprocess

import pytest

from tests.helpers import fork_server
from tests.helpers.running import run_pipeline

pytestmark = pytest.mark.slow


@pytest.fixture(params=[None, 60.0], ids=["no default timeout", "a default timeout of sockets"])
def server(request):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(request.param)
    server = fork_server.ForkServer(os.environ)
    socket.setdefaulttimeout(before)
    yield server
    server.close()


def test_exit_code_and_streams_are_those_of_a_process(server, tmp_path):
    flags = ["--input", tmp_path / "none", "--explain"]
    for more in ([], ["--batch_size=0"]):
        fresh = run_pipeline(tmp_path / "out", *flags, *more, fresh=True)
        forked = server.run(["--output", str(tmp_path / "out"), *map(str, flags), *more], 60)
        assert (forked.returncode, forked.stdout, forked.stderr) == (fresh.code, fresh.stdout, fresh.stderr)


def test_after_a_run_that_took_too_long_there_is_another(server, tmp_path):
    with pytest.raises(subprocess.TimeoutExpired):
        server.run(["--output", str(tmp_path / "out")], 0.5)
    assert not list(tmp_path.glob("out/runs/*.json"))
    assert server.run(["--help"], 60).returncode == 0


def test_runs_at_once_of_which_one_is_killed(server, tmp_path):
    killed, other = (server.start(["--output", str(tmp_path / name)]) for name in ("a", "b"))
    assert (killed.poll(), other.poll()) == (None, None) and killed.pid != other.pid
    with pytest.raises(subprocess.TimeoutExpired):
        killed.wait(0.01)
    killed.kill()
    assert killed.wait(60) == -signal.SIGKILL
    killed.kill()  # no process, or another's by now
    stdout, stderr = other.communicate(240)
    assert other.poll() == 0, stderr
    assert "images listed" in stdout
