"""The sweep: each request of a small nightly run to Cloud Storage and BigQuery fails once, in each way.

The requests of a run are numbered as they come. Those whose numbers were chosen meet a fault, and all others an honest
reply. After each run, or after the same command again where the run was killed, the table and the files must be those
of a run without a fault.

A run is killed at one request. The other faults meet a run eight at a time, an eighth of its requests apart: each is
over, with the retries that it causes, long before the next. So each request meets each kind, in an eighth of the runs.
"""

import concurrent.futures
import contextlib
import itertools
import os
import queue
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping

from tests.conftest import Cloud
from tests.end_to_end.test_warehouse_end_to_end import check_equal
from tests.helpers.faults import fault_proxy
from tests.helpers.fork_server import ForkServer
from tests.helpers.running import read_rows
from tests.helpers.warehouses import Warehouse
from tests.torture.outcome import Outcome, check

# How the proxy names each fault → how the table in the docs does.
KINDS = {
    "unavailable": "503",
    "reset": "connection reset before the request",
    "lost_reply": "connection reset after it",
    "hang": "no reply for seconds, then a closed connection",
    "kill": "SIGKILL of the job, and the same command again",
}
_TOGETHER = [kind for kind in KINDS if kind != "kill"] * 2
HANG_SECONDS = 2.0
RUN = "night"
# Retries and polls are requests too, so a run may have some more than the one that was counted.
_MORE_REQUESTS = 12


class Chosen:
    """Decides on faults for several proxies together: requests of chosen numbers meet one, and no others do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.arm({})

    def arm(self, faults: Mapping[int, str]) -> None:
        """Lets requests meet faults, by the number of the request from now on."""
        self.requests = 0
        self.met: list[str] = []
        self.process = 0
        self._faults = faults

    def started(self, process: int) -> None:
        """Takes the id of the process that runs the command."""
        self.process = process

    def next(self, method: str, path: str, body: bytes = b"") -> str | None:
        with self._lock:
            self.requests += 1
            fault = self._faults.get(self.requests)
            if fault is None:
                return None
            self.met.append(fault)
        if fault != "kill":
            return fault
        os.kill(self.process, signal.SIGKILL)
        return "reset"


class Lane:
    """Runs one night after the other, through proxies of its own."""

    def __init__(self, chosen: Chosen, environment: dict[str, str]):
        self.chosen = chosen
        self._server = ForkServer(environment)

    def run(self, flags: list[str], faults: Mapping[int, str]) -> list[str]:
        """Runs the command to its good end, with faults at some requests. Returns the faults that it met."""
        self.chosen.arm(faults)
        done = self._server.run(flags, 400, self.chosen.started)
        met = self.chosen.met
        if "kill" in met:
            check(done.returncode == -signal.SIGKILL, done)
            self.chosen.arm({})
            done = self._server.run(flags, 400)
        check(done.returncode == 0, done.stderr)
        return met

    def close(self) -> None:
        self._server.close()


class Sweep:
    """A bucket that has changed since the last night, the table of that night, and what the next night makes of it.

    Attributes:
      requests: of a night without a fault.
    """

    AT_ONCE = 4  # nights, which wait as often as they compute, so two cores have more than two to do
    HAPPENED = "same table, same files"
    WHERE = "`tests.torture.sweep`: at request N of a nightly run's {requests}"

    def __init__(self, cloud: Cloud, lanes: list[Lane], name: str):
        """Makes the bucket and the table, and runs the night once without a fault. See `prepared`."""
        self._lanes: queue.Queue[Lane] = queue.Queue()
        for lane in lanes:
            self._lanes.put(lane)
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
        night, _ = self._night(lanes[0], {})
        self._rows, self._records = self._results(night)
        self.requests = lanes[0].chosen.requests
        check(len(self._rows) == 5 and len(self._records) == 4, (sorted(self._rows), sorted(self._records)))

    def run(self, every: int = 1) -> list[Outcome]:
        """Lets each request meet each kind of fault, or one of every few requests. Raises Broken.

        Args:
          every: 3 for each third request.
        """
        last = self.requests + _MORE_REQUESTS
        last += -last % len(_TOGETHER)
        apart = last // len(_TOGETHER)
        # Kinds that repeat are half of the requests apart, so half of the first numbers are enough.
        nights = [
            {(first + apart * i) % last + 1: kind for i, kind in enumerate(_TOGETHER)}
            for first in range(0, last // 2, every)
        ]
        nights += [{first + 1: "kill"} for first in range(0, last, every)]
        tried: Counter[str] = Counter()
        broken = []
        with concurrent.futures.ThreadPoolExecutor(self._lanes.qsize()) as pool:
            for number, (met, problem) in enumerate(pool.map(self._try, nights), 1):
                if number % 10 == 0:
                    sys.stderr.write(f"sweep: {number} of {len(nights)} nights\n")
                tried.update(met)
                broken += [problem] if problem else []
        check(not broken, "\n".join(broken))
        return [
            Outcome(
                KINDS[kind],
                self.WHERE.format(requests=self.requests),
                tried[kind],
                self.HAPPENED,
            )
            for kind in KINDS
        ]

    def _try(self, faults: Mapping[int, str]) -> tuple[list[str], str | None]:
        """Runs a night with faults. Returns those that it met, and how its results differ."""
        lane = self._lanes.get()
        try:
            night, met = self._night(lane, faults)
            rows, records = self._results(night)
            check_equal(rows, self._rows)
            check(records == self._records, f"files of {sorted(records)}")
            night.remove()
        except Exception as error:  # noqa: BLE001 - a sweep goes on, and names all that is wrong at its end
            text = f"{faults}: {type(error).__name__}: {error}"
            sys.stderr.write(text + "\n")
            return [], text
        finally:
            self._lanes.put(lane)
        return met, None

    def _night(self, lane: Lane, faults: Mapping[int, str]) -> tuple[Warehouse, list[str]]:
        """Runs a night on copies of the tables. Returns these, and the faults that it met."""
        night = self._first.copied(f"{self._name}_{next(self._count)}")
        flags = night.flags("images", "--prune", f"--run_id={RUN}", f"--output=gs://{night.temp.name}/out")
        return night, lane.run(flags, faults)

    def _results(self, night: Warehouse) -> tuple[dict, dict]:
        rows = night.rows("images")
        out = night.buckets / night.temp.name / "out"
        read = read_rows(out, RUN)
        records = {row["image/key"].decode(): row["image/sha256"] for row in read}
        check(len(records) == len(read), "a key twice in the files")
        files = [path.relative_to(out) for path in out.rglob("*") if path.is_file()]  # the emulator keeps empty folders
        left = [str(path) for path in files if ".parts" in path.parts or path.suffix == ".unfinished"]
        check(not left, f"left behind: {left}")
        (failure,) = night.query(f"SELECT key FROM images_failures WHERE run_id = '{RUN}'")
        check(failure["key"].endswith("/broken.jpg"), failure)
        check(len(night.query(f"SELECT run_id FROM images_runs WHERE run_id = '{RUN}'")) == 1, "rows of the run")
        return rows, records


@contextlib.contextmanager
def prepared(cloud: Cloud, name: str = "sweep") -> Iterator[Sweep]:
    """Yields a sweep, of which some nights run at once, each over proxies of its own in front of the emulators."""
    with contextlib.ExitStack() as stack:
        lanes = []
        for _ in range(Sweep.AT_ONCE):
            chosen = Chosen()
            environment = os.environ | cloud.environment
            for server in ("STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST"):
                proxy = fault_proxy(
                    cloud.environment[server], decisions=chosen, hang_seconds=HANG_SECONDS, preconditions=True
                )
                environment[server] = stack.enter_context(proxy).url
            lanes.append(Lane(chosen, environment))
            stack.callback(lanes[-1].close)
        yield Sweep(cloud, lanes, name)
