"""The sweep: each request of a small nightly run to Cloud Storage and BigQuery fails once, in each way.

Number N = 1, 2, … of the requests meets a fault, and all others an honest reply. After each run, or after the same
command again where the run was killed, the table and the files must be those of a run without a fault.
"""

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Iterator

from tests import fork_server
from tests.conftest import Cloud
from tests.faults import fault_proxy
from tests.running import read_rows
from tests.test_warehouse_end_to_end import Warehouse, check_equal
from tests.torture.outcome import Broken, Outcome, check

# How the proxy names each fault → how the table in the docs does.
KINDS = {
    "unavailable": "503",
    "reset": "connection reset before the request",
    "lost_reply": "connection reset after it",
    "hang": "no reply for seconds, then a closed connection",
    "kill": "SIGKILL of the job, and the same command again",
}
_HANG_SECONDS = 2.0
_RUN = "night"


class _Nth:
    """Decides on faults for several proxies together: one request meets a fault, and no other one does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.arm(0, "")

    def arm(self, number: int, fault: str) -> None:
        """Lets request number `number` from now on meet `fault`; none if it is 0."""
        self.requests = 0
        self.was_met = False
        self.process = 0
        self._number, self._fault = number, fault

    def started(self, process: int) -> None:
        """Takes the id of the process that runs the command."""
        self.process = process

    def next(self, method: str, path: str, body: bytes = b"") -> str | None:
        with self._lock:
            self.requests += 1
            if self.requests != self._number:
                return None
            self.was_met = True
        if self._fault != "kill":
            return self._fault
        os.kill(self.process, signal.SIGKILL)
        return "reset"


class Sweep:
    """A bucket that has changed since the last night, the table of that night, and what the next night makes of it."""

    def __init__(self, cloud: Cloud, environment: dict[str, str], nth: _Nth, name: str):
        """Makes the bucket and the table, and runs the night once without a fault. See `prepared`."""
        self._environment = environment
        self._nth = nth
        self._name = name
        self._count = itertools.count()
        self._first = Warehouse(cloud, name)
        self._first.put_images([f"{i}.jpg" for i in range(4)], 0)
        self._first.put("broken.jpg", b"no image")
        self._first.run("images", "--run_id=first")
        self._first.put_images(["1.jpg", "new.jpg"], 100)
        self._first.copy("new.jpg", "copy of new.jpg")
        self._first.copy("2.jpg", "renamed.jpg")
        self._first.delete("2.jpg")
        self._first.delete("3.jpg")
        self._rows, self._records = self._results(self._night())
        self.requests = nth.requests
        check(len(self._rows) == 5 and len(self._records) == 4, (sorted(self._rows), sorted(self._records)))

    def run(self, kind: str, every: int = 1) -> Outcome:
        """Lets each request meet one kind of fault, or one of every few requests. Raises Broken."""
        tried = 0
        for number in range(1 + list(KINDS).index(kind) % every, self.requests + 1, every):
            night = self._night(number, kind)
            if not self._nth.was_met:  # one poll less than in the first run
                continue
            tried += 1
            rows, records = self._results(night)
            try:
                check_equal(rows, self._rows)
                check(records == self._records, f"files of {sorted(records)}")
            except AssertionError as error:
                raise Broken(f"{KINDS[kind]}, request {number}: {error}") from error
        return Outcome(
            f"{KINDS[kind]}",
            f"`tests.torture.sweep`: at request N of a nightly run's {self.requests}",
            tried,
            "same table, same files",
        )

    def _night(self, number: int = 0, kind: str = "") -> Warehouse:
        """Runs a night on copies of the tables, with a fault at one request."""
        night = self._first.copied(f"{self._name}_{next(self._count)}")
        flags = night.flags("images", "--prune", f"--run_id={_RUN}", f"--output=gs://{night.temp.name}/out")
        self._nth.arm(number, kind)
        done = fork_server.run(flags, self._environment, 400, self._nth.started)
        if kind == "kill" and self._nth.was_met:
            check(done.returncode == -signal.SIGKILL, f"{KINDS[kind]}, request {number}: {done}")
            self._nth.arm(0, "")
            done = fork_server.run(flags, self._environment, 400)
            self._nth.was_met = True
        check(done.returncode == 0, f"{KINDS.get(kind, 'no fault')}, request {number}: {done.stderr}")
        return night

    def _results(self, night: Warehouse) -> tuple[dict, dict]:
        rows = night.rows("images")
        out = night.buckets / night.temp.name / "out"
        records = {row["image/key"].decode(): row["image/sha256"] for row in read_rows(out, _RUN)}
        check(len(records) == len(read_rows(out, _RUN)), "a key twice in the files")
        files = [path.relative_to(out) for path in out.rglob("*") if path.is_file()]  # the emulator keeps empty folders
        left = [str(path) for path in files if ".parts" in path.parts or path.suffix == ".unfinished"]
        check(not left, f"left behind: {left}")
        (failure,) = night.query(f"SELECT key FROM images_failures WHERE run_id = '{_RUN}'")
        check(failure["key"].endswith("/broken.jpg"), failure)
        check(len(night.query(f"SELECT run_id FROM images_runs WHERE run_id = '{_RUN}'")) == 1, "rows of the run")
        return rows, records


@contextlib.contextmanager
def prepared(cloud: Cloud, name: str = "sweep") -> Iterator[Sweep]:
    """Yields a sweep over proxies in front of the emulators."""
    nth = _Nth()
    storage, bigquery = "STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST"
    with (
        fault_proxy(cloud.environment[storage], decisions=nth, hang_seconds=_HANG_SECONDS) as before_storage,
        fault_proxy(cloud.environment[bigquery], decisions=nth, hang_seconds=_HANG_SECONDS) as before_bigquery,
    ):
        environment = os.environ | cloud.environment | {storage: before_storage.url, bigquery: before_bigquery.url}
        yield Sweep(cloud, environment, nth, name)
