"""A Flink cluster on this machine: a JobManager, two TaskManagers with worker pools, and Beam's job server."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.flink import jars

ROOT = Path(__file__).parents[2]
TASK_MANAGERS = 2
SLOTS = 2  # per TaskManager, so that either one has room for the tasks of both

# The flags that Flink's own scripts pass to a JVM of version 17.
_JVM = [
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
    "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",
    "--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
    *(
        f"--add-opens=java.base/{package}=ALL-UNNAMED"
        for package in (
            "java.lang",
            "java.net",
            "java.io",
            "java.nio",
            "sun.nio.ch",
            "java.lang.reflect",
            "java.text",
            "java.time",
            "java.util",
            "java.util.concurrent",
            "java.util.concurrent.atomic",
            "java.util.concurrent.locks",
        )
    ),
]
_LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} %m%n
"""


@dataclasses.dataclass
class Cluster:
    """A running cluster.

    Attributes:
      url: the address of the JobManager's REST interface and UI.
      flags: the flags with which the command runs on it.
      task_managers: the processes of the TaskManagers.
      directory: the directory with the logs.
    """

    url: str
    flags: list[str]
    task_managers: list[subprocess.Popen]
    directory: Path

    def get(self, path: str) -> dict:
        """Returns the answer of the REST interface, parsed."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as reply:  # noqa: S310 - always http://127.0.0.1
            return json.load(reply)


@contextlib.contextmanager
def flink(directory: Path) -> Iterator[Cluster]:
    """Starts a cluster that keeps its configuration, files and logs in `directory`; stops it after the block."""
    rest, rpc, pool, job = (_free_port() for _ in range(4))
    directory = directory.resolve()
    (directory / "log4j.properties").write_text(_LOGGING)
    (directory / "config.yaml").write_text(_configuration(directory, rest, rpc))
    # Flink and its logging, without its table API, which is half of the distribution.
    lib = jars.distribution()
    class_path = sorted([*lib.glob("flink-dist-*.jar"), *lib.glob("log4j-*.jar")]) + jars.job_server()
    base = "org.apache.flink.runtime"
    with contextlib.ExitStack() as stack:

        def start(name: str, command: Sequence[object]) -> subprocess.Popen:
            process = _start(directory / f"{name}.log", command)
            stack.callback(_stop, process)
            return process

        def java(name: str, flags: Sequence[str], *arguments: object) -> subprocess.Popen:
            logging = f"-Dlog4j.configurationFile={directory}/log4j.properties"
            return start(
                name, ["java", *flags, *_JVM, logging, "-cp", os.pathsep.join(map(str, class_path)), *arguments]
            )

        entry = f"{base}.entrypoint.StandaloneSessionClusterEntrypoint"
        manager = java("jobmanager", ["-Xmx384m"], entry, "--configDir", directory)
        server = java(
            "jobserver",
            ["-Xmx384m"],
            "org.apache.beam.runners.flink.FlinkJobServerDriver",
            "--job-host=127.0.0.1",
            f"--job-port={job}",
            "--artifact-port=0",
            "--expansion-port=0",
            f"--flink-master=127.0.0.1:{rest}",
            f"--artifacts-dir={directory}/artifacts",
        )
        task_managers = []
        for i in range(TASK_MANAGERS):
            # On a real cluster, each machine has its own `localhost`. Here, each TaskManager has its own `worker-pool`.
            own, hosts = f"127.0.0.{i + 1}", directory / f"hosts-{i}"
            hosts.write_text(f"127.0.0.1 localhost {socket.gethostname()}\n{own} worker-pool\n")
            start(f"workers-{i}", [sys.executable, "-m", "deploy.flink.worker_pool", f"{own}:{pool}"])
            flags, runner = ["-Xmx512m", f"-Djdk.net.hosts.file={hosts}"], f"{base}.taskexecutor.TaskManagerRunner"
            task_managers.append(
                java(f"taskmanager-{i}", flags, runner, "--configDir", directory, f"-Dtaskmanager.resource-id={i}")
            )
        for port, process in ((rest, manager), (job, server)):
            _wait_for_port(port, process)
        flags = ["--preset=flink", f"--job_endpoint=127.0.0.1:{job}", f"--environment_config=worker-pool:{pool}"]
        cluster = Cluster(f"http://127.0.0.1:{rest}", flags, task_managers, directory)
        _wait_for_task_managers(cluster)
        yield cluster


def _start(log: Path, command: Sequence[object]) -> subprocess.Popen:
    """Starts a process in a session of its own, so that `_stop` also ends its children."""
    with log.open("wb") as file:
        return subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            # A worker pool starts plain `python`, which must be this interpreter.
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for_port(port: int, process: subprocess.Popen, seconds: float = 70) -> None:
    """Waits until a process listens; a JVM starts slowly on a busy machine."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"the server did not open its port within {seconds} s")


def missing() -> str | None:
    """Returns why a cluster cannot run on this machine, or None if it can."""
    if not shutil.which("java"):
        return "no Java: put version 11 or 17 on the PATH (docs/flink.md)"
    try:
        jars.distribution()
        jars.job_server()
    except OSError as error:
        return f"the jars of Flink and of Beam's job server cannot be fetched: {error}"
    return None


def _configuration(directory: Path, rest: int, rpc: int) -> str:
    for name in ("io", "artifacts"):
        (directory / name).mkdir()
    return json.dumps(  # JSON is YAML
        {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": rpc,
            "jobmanager.bind-host": "127.0.0.1",
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": rest,
            "web.refresh-interval": 100,  # milliseconds for which the REST interface may show a state that is over
            "io.tmp.dirs": str(directory / "io"),
            "taskmanager.numberOfTaskSlots": SLOTS,
            # With this, both TaskManagers take part in a job of parallelism 2.
            "cluster.evenly-spread-out-slots": True,
            # Without Flink's scripts, a TaskManager needs the size of each part of its memory.
            "taskmanager.cpu.cores": 1.0,
            "taskmanager.memory.task.heap.size": "256m",
            "taskmanager.memory.task.off-heap.size": "64m",
            "taskmanager.memory.network.min": "256m",
            "taskmanager.memory.network.max": "256m",
            "taskmanager.memory.managed.size": "128m",
            "taskmanager.memory.framework.heap.size": "128m",
            "taskmanager.memory.framework.off-heap.size": "128m",
            "taskmanager.memory.jvm-metaspace.size": "256m",
            "taskmanager.memory.jvm-overhead.min": "128m",
            "taskmanager.memory.jvm-overhead.max": "128m",
            # A worker outlives a stage only if Flink loads Beam's classes itself, not the job.
            "classloader.resolve-order": "parent-first",
            # With this, a job survives the loss of a TaskManager. docs/flink.md requires it of a cluster.
            "restart-strategy.type": "fixed-delay",
            # All delays together exceed the heartbeat's timeout. Until then, Flink still assigns tasks to the lost one.
            "restart-strategy.fixed-delay.attempts": 10,
            "restart-strategy.fixed-delay.delay": "3 s",
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 8000,
        },
        indent=2,
    )


def _wait_for_task_managers(cluster: Cluster, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(urllib.error.HTTPError):  # 503 before the JobManager leads
            if cluster.get("/overview")["taskmanagers"] == TASK_MANAGERS:
                return
        if time.monotonic() > deadline or any(each.poll() is not None for each in cluster.task_managers):
            raise TimeoutError(f"expected {TASK_MANAGERS} TaskManagers within {seconds} s; logs: {cluster.directory}")
        time.sleep(0.2)


def _stop(process: subprocess.Popen) -> None:
    """Ends a process and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
