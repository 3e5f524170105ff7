"""A Flink cluster on this machine: a JobManager, two TaskManagers, worker pools, and Beam's job server before them.

`python -m tests.flink FLAGS…` runs the command on it with these flags, and stops it all.

Beam publishes its job server as one jar, `beam-runners-flink-<Flink>-job-server`. A package mirror that lacks it may
still have the libraries that it is made of: JARS pins each of these, and Flink comes from PyPI. Nothing is installed.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.emulators import free_port, wait_for

ROOT = Path(__file__).parents[1]
JARS = Path(__file__).with_name("flink-jars.sha256")
MAVEN = "https://repo1.maven.org/maven2"
FLINK = "1.19.2"
FLINK_URL = (
    "https://files.pythonhosted.org/packages/3a/5b/35ef2814340246d0d89a0c56345c8a6fef813cb9615c691fe33dfbc0d2b8/"
    f"apache-flink-libraries-{FLINK}.tar.gz"
)
FLINK_SHA256 = "2bd8577a011cd6673d3e59d45fff79621258ce54e57298d07064c54928b47b17"
TASK_MANAGERS = 2
SLOTS = 2  # each: what one TaskManager ran has room on the other

# What Flink's own scripts give a JVM of version 17.
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
      url: of the JobManager's REST interface and UI.
      flags: what lets the command run on it.
      task_managers: their processes.
      directory: with the logs.
    """

    url: str
    flags: list[str]
    task_managers: list[subprocess.Popen]
    directory: Path

    def get(self, path: str) -> dict:
        """Returns what the REST interface answers."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as reply:  # noqa: S310 - always http://127.0.0.1
            return json.load(reply)


@contextlib.contextmanager
def flink(directory: Path) -> Iterator[Cluster]:
    """Starts a cluster that keeps its configuration, files and logs in `directory`; stops it after the block."""
    rest, rpc = free_port(), free_port()
    distribution, jars = _distribution(), _job_server()
    (directory / "log4j.properties").write_text(_LOGGING)
    (directory / "config.yaml").write_text(_configuration(directory, rest, rpc))
    # Flink and its logging; not its tables, which are half of it.
    runtime = sorted([*distribution.glob("flink-dist-*.jar"), *distribution.glob("log4j-*.jar")])
    with contextlib.ExitStack() as stack:

        def start(name: str, command: Sequence[object]) -> subprocess.Popen:
            with (directory / f"{name}.log").open("wb") as log:
                # A worker pool starts plain `python`, which shall be this one. A session of its own: its workers too
                # end with it.
                process = subprocess.Popen(
                    list(map(str, command)),
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
                )
            stack.callback(_stop, process)
            return process

        def java(name: str, heap: str, classes: Sequence[Path], *arguments: object) -> subprocess.Popen:
            path = os.pathsep.join(map(str, classes))
            logging = f"-Dlog4j.configurationFile={directory}/log4j.properties"
            return start(name, [_java(), f"-Xmx{heap}", *_JVM, logging, "-cp", path, *arguments])

        base = "org.apache.flink.runtime"
        entry = f"{base}.entrypoint.StandaloneSessionClusterEntrypoint"
        wait_for_start(rest, java("jobmanager", "384m", runtime, entry, "--configDir", directory))
        task_managers = [
            java(
                f"taskmanager-{i}", "512m", runtime, f"{base}.taskexecutor.TaskManagerRunner", "--configDir", directory
            )
            for i in range(TASK_MANAGERS)
        ]
        pool = free_port()
        module = "apache_beam.runners.worker.worker_pool_main"
        pools = start("workers", [sys.executable, "-m", module, f"--service_port={pool}"])
        job = free_port()
        server = java(
            "jobserver",
            "384m",
            [*jars, *runtime],
            "org.apache.beam.runners.flink.FlinkJobServerDriver",
            "--job-host=127.0.0.1",
            f"--job-port={job}",
            "--artifact-port=0",
            "--expansion-port=0",
            f"--flink-master=127.0.0.1:{rest}",
            f"--artifacts-dir={directory}/artifacts",
        )
        for port, process in ((pool, pools), (job, server)):
            wait_for_start(port, process)
        flags = [
            "--runner=FlinkRunner",
            f"--job_endpoint=127.0.0.1:{job}",
            "--environment_type=EXTERNAL",
            f"--environment_config=127.0.0.1:{pool}",
            f"--parallelism={TASK_MANAGERS}",
        ]
        cluster = Cluster(f"http://127.0.0.1:{rest}", flags, task_managers, directory)
        _wait_for_task_managers(cluster)
        yield cluster


def wait_for_start(port: int, process: subprocess.Popen, seconds: float = 60) -> None:
    """Waits longer than for the small servers: a JVM starts slowly on a busy machine."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return wait_for(port, process)
        except TimeoutError:
            if time.monotonic() > deadline:
                raise


def missing() -> str | None:
    """Returns what a cluster needs and is not here, None where all is."""
    return None if shutil.which("java") else "no Java: put one of version 11 or 17 on the PATH (docs/flink.md)"


def _java() -> str:
    if said := missing():
        raise FileNotFoundError(said)
    return str(shutil.which("java"))


def _configuration(directory: Path, rest: int, rpc: int) -> str:
    for name in ("io", "artifacts"):
        (directory / name).mkdir()
    return json.dumps(  # which is YAML
        {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": rpc,
            "jobmanager.bind-host": "127.0.0.1",
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": rest,
            "io.tmp.dirs": str(directory / "io"),
            "taskmanager.numberOfTaskSlots": SLOTS,
            # So that both TaskManagers have a part in a job of parallelism 2.
            "cluster.evenly-spread-out-slots": True,
            # Started without Flink's scripts, a TaskManager wants its memory in full.
            "taskmanager.cpu.cores": 1.0,
            "taskmanager.memory.task.heap.size": "256m",
            "taskmanager.memory.task.off-heap.size": "64m",
            "taskmanager.memory.network.min": "64m",
            "taskmanager.memory.network.max": "64m",
            "taskmanager.memory.managed.size": "128m",
            "taskmanager.memory.framework.heap.size": "128m",
            "taskmanager.memory.framework.off-heap.size": "128m",
            "taskmanager.memory.jvm-metaspace.size": "256m",
            "taskmanager.memory.jvm-overhead.min": "128m",
            "taskmanager.memory.jvm-overhead.max": "128m",
            # A job outlives a TaskManager: this is what docs/flink.md asks of a cluster.
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 3,
            "restart-strategy.fixed-delay.delay": "1 s",
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 8000,
        },
        indent=2,
    )


def _wait_for_task_managers(cluster: Cluster, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while cluster.get("/overview")["taskmanagers"] < TASK_MANAGERS:
        if time.monotonic() > deadline or any(each.poll() is not None for each in cluster.task_managers):
            raise TimeoutError(f"no {TASK_MANAGERS} TaskManagers within {seconds} s; logs: {cluster.directory}")
        time.sleep(0.2)


def _stop(process: subprocess.Popen) -> None:
    """Ends a process with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _cache() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = home / "beam-image-embeddings" / f"flink-{FLINK}"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _distribution() -> Path:
    """Returns the directory of Flink's jars."""
    directory = _cache() / "lib"
    if not directory.exists():
        archive = _fetched(FLINK_URL, FLINK_SHA256)
        with tempfile.TemporaryDirectory(dir=_cache()) as scratch, tarfile.open(archive) as packed:
            members = [member for member in packed.getmembers() if "/deps/lib/" in member.name and member.isfile()]
            packed.extractall(scratch, members, filter="data")
            with contextlib.suppress(OSError):  # another process was first
                next(Path(scratch).glob("*/deps/lib")).rename(directory)
        archive.unlink(missing_ok=True)
    return directory


def _job_server() -> list[Path]:
    """Returns the jars of Beam's job server, Flink's own not among them."""
    pinned = [line.split() for line in JARS.read_text().splitlines()]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda pin: _fetched(f"{MAVEN}/{pin[1]}", pin[0]), pinned))


def _fetched(url: str, sha256: str) -> Path:
    """Returns the file of a URL, from the cache where it is; checks what it fetches."""
    path = _cache() / url.rpartition("/")[2]
    if path.exists():
        return path
    with urllib.request.urlopen(url, timeout=300) as reply:  # noqa: S310 - https, pinned here
        content = reply.read()
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ValueError(f"{url} has the digest {found}: expected {sha256=}")
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).rename(path)
    return path


def main(flags: Sequence[str]) -> int:
    """Runs the command on a cluster; returns its exit code."""
    if said := missing():
        print(said, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory() as directory, flink(Path(directory)) as cluster:
            print(f"Flink {FLINK} of {TASK_MANAGERS} TaskManagers: {cluster.url}", flush=True)
            code = subprocess.run([sys.executable, "run_pipeline.py", *cluster.flags, *flags], cwd=ROOT).returncode
            for job in cluster.get("/jobs/overview")["jobs"]:
                print(f"Flink job {job['jid']} {job['state']} after {job['duration'] / 1000:.1f} s: {job['tasks']}")
            return code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
