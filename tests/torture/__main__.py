"""Makes each fault that we know how to make, and prints the table of docs/reliability.md: `make torture`.

All of it takes some 40 minutes on two cores, most of it for the sweeps. `--quick` takes some minutes, and tries one
request of every 24.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.helpers.emulators import bigquery_emulator, storage_emulator
from tests.torture import disks, history, kills, soak, sweep, sweep_s3
from tests.torture.outcome import Outcome

_HEADER = "| fault | made by | tried | what happened |\n|---|---|---|---|"
_QUICK_EVERY = 24


@contextlib.contextmanager
def _cloud(scratch: Path) -> Iterator["object"]:
    from tests.conftest import Cloud, point_clients_at

    for name in ("storage", "bigquery"):
        (scratch / name).mkdir()
    with (
        storage_emulator(scratch / "storage") as storage,
        bigquery_emulator(scratch / "bigquery", scratch / "storage") as bigquery,
        point_clients_at(storage | bigquery),
    ):
        yield Cloud(storage | bigquery, scratch / "storage" / ".cloudstorage")


def _tortures(scratch: Path, quick: bool) -> Iterator[tuple[str, Callable[[], list[Outcome]]]]:
    def directory(name: str) -> Path:
        made = scratch / name
        made.mkdir()
        return made

    images, times = (600, 3) if quick else (2000, 10)
    yield "kills", lambda: [kills.run(directory("kills"), images, times)]
    if disks.can_mount():
        yield "disks", lambda: disks.run(directory("disks"))

    def of_history() -> list[Outcome]:
        with _cloud(directory("history")) as cloud:
            rounds = 2 if quick else 6
            of_cloud = [history.run(cloud, rounds), history.seeing(cloud, directory("seeing"), rounds)]
        return [*of_cloud, history.run_on_s3(directory("history_s3"), rounds)]

    def of_sweep() -> list[Outcome]:
        with _cloud(directory("sweep")) as cloud, sweep.prepared(cloud) as prepared:
            return prepared.run(_QUICK_EVERY if quick else 1)

    def of_sweep_s3() -> list[Outcome]:
        with sweep_s3.prepared(directory("sweep_s3")) as prepared:
            return prepared.run(_QUICK_EVERY if quick else 1)

    yield "history", of_history
    yield "sweep", of_sweep
    yield "sweep_s3", of_sweep_s3
    yield "soak", lambda: [soak.run(directory("soak"), 5000 if quick else 50_000)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some minutes in place of 40")
    parser.add_argument("--only", metavar="NAME", help="kills, disks, history, sweep, sweep_s3 or soak (default: all)")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, torture in _tortures(Path(scratch), args.quick):
            if args.only in (None, name):
                start = time.monotonic()
                rows += [outcome.row() for outcome in torture()]
                sys.stderr.write(f"{name}: {time.monotonic() - start:.0f} s\n")
    print("\n".join([_HEADER, *rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
