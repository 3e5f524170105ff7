"""The sweep on S3: each request of a small run fails once, in each way. The bucket has images, and an earlier run.

Without a table, the files of both runs are all that there is to compare.
"""

import contextlib
import itertools
import os
import queue
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.helpers import data_generation as data
from tests.helpers import object_servers
from tests.helpers.faults import fault_proxy
from tests.helpers.running import read_rows
from tests.torture.outcome import check
from tests.torture.sweep import HANG_SECONDS, RUN, Chosen, Lane, Sweep
from transforms.storage import files, stores
from transforms.storage.context import DEFAULT_STORAGE

_TOP = "s3://sweep"


class S3Sweep(Sweep):
    """A bucket that has changed since an earlier run into it, and what the next run makes of it."""

    HAPPENED = "same files"
    WHERE = "`tests.torture.sweep_s3`: at request N of a run's {requests} to S3"

    def __init__(self, lanes: list[Lane]):
        """Makes the bucket and the earlier run, and runs the next once without a fault."""
        self._lanes: queue.Queue[Lane] = queue.Queue()
        for lane in lanes:
            self._lanes.put(lane)
        self._count = itertools.count()
        object_servers.make_bucket(_TOP)
        for number in range(4):
            self._put(f"{number}.jpg", number)
        files.write(f"{_TOP}/photos/broken.jpg", b"no image")
        self._flags = [f"--input={_TOP}/photos/", "--read_concurrency=4"]
        lanes[0].run([*self._flags, "--run_id=first", f"--output={_TOP}/first"], {})
        self._put("1.jpg", 100)
        self._put("new.jpg", 101)
        files.copy(f"{_TOP}/photos/new.jpg", f"{_TOP}/photos/copy of new.jpg")
        files.copy(f"{_TOP}/photos/2.jpg", f"{_TOP}/photos/renamed.jpg")
        for name in ("2.jpg", "3.jpg"):
            files.remove_file(f"{_TOP}/photos/{name}")
        night, _ = self._night(lanes[0], {})
        self.requests = lanes[0].chosen.requests
        self._rows, self._records = self._results(night)
        check(len(self._records) == 4 + 4, sorted(self._records))

    def _put(self, name: str, seed: int) -> None:
        files.write(f"{_TOP}/photos/{name}", data.jpeg(seed, 24, 32))

    def _night(self, lane: Lane, faults: Mapping[int, str]) -> tuple["_Output", list[str]]:
        night = _Output(f"{_TOP}/{next(self._count)}")
        store = stores.of(_TOP)
        for stored in list(store.listed(DEFAULT_STORAGE, f"{_TOP}/first/")):
            store.copy(DEFAULT_STORAGE, stored.path, stored.path.replace(f"{_TOP}/first", night.path))
        return night, lane.run([*self._flags, f"--run_id={RUN}", f"--output={night.path}"], faults)

    def _results(self, night: "_Output") -> tuple[dict, dict]:
        with tempfile.TemporaryDirectory() as directory:
            out, names = Path(directory), []
            for stored in stores.of(_TOP).listed(DEFAULT_STORAGE, f"{night.path}/"):
                names.append(stored.path.removeprefix(f"{night.path}/"))
                (out / names[-1]).parent.mkdir(parents=True, exist_ok=True)
                (out / names[-1]).write_bytes(files.read(stored.path))
            # A hidden file beside a report is left if the kill comes after its copy; a later run removes it.
            left = [name for name in names if "/.parts/" in name or name.endswith(".unfinished")]
            check(not left, f"left behind: {left}")
            check({f"runs/{RUN}.json", f"runs/{RUN}.html"} <= set(names), names)
            read = [(run, row) for run in ("first", RUN) for row in read_rows(out, run)]
            failures = "".join(path.read_text() for path in out.glob(f"failures/{RUN}/part-*.jsonl"))
        records = {(run, row["image/key"].decode()): row["image/sha256"] for run, row in read}
        check(len(records) == len(read), "a key twice in the files")
        check(failures.count("\n") == 1 and "broken.jpg" in failures, failures)
        return {}, records


class _Output:
    """The output of one run."""

    def __init__(self, path: str):
        self.path = path

    def remove(self) -> None:
        files.remove(self.path)


@contextlib.contextmanager
def prepared(directory: Path) -> Iterator[S3Sweep]:
    """Yields a sweep, of which some nights run at once, each over a proxy of its own in front of one server."""
    with (
        object_servers.s3_server(directory) as environment,
        object_servers.clients_of(environment),
        contextlib.ExitStack() as stack,
    ):
        lanes = []
        for _ in range(Sweep.AT_ONCE):
            chosen = Chosen()
            proxy = fault_proxy(
                environment["AWS_ENDPOINT_URL"], decisions=chosen, hang_seconds=HANG_SECONDS, keep_host=True
            )
            lanes.append(Lane(chosen, os.environ | environment | {"AWS_ENDPOINT_URL": stack.enter_context(proxy).url}))
            stack.callback(lanes[-1].close)
        yield S3Sweep(lanes)
