"""Histories: runs over images that change, and one table that follows them.

Runs overlap, and are killed or stopped, in the one. In the other, a part of the images is out of sight at each run.
"""

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.conftest import Cloud
from tests.end_to_end.test_warehouse_end_to_end import check_equal
from tests.helpers import data_generation as data
from tests.helpers import fork_server, object_servers, stopping
from tests.helpers.running import ROOT
from tests.helpers.warehouses import Warehouse
from tests.torture.outcome import Outcome, check
from transforms.storage import files


def run(cloud: Cloud, rounds: int = 6, at_once: int = 2, seed: int = 0) -> Outcome:
    """Lets runs overlap on a bucket that changes meanwhile, and checks the table after each round. Raises Broken."""
    chance = random.Random(seed)
    warehouse = Warehouse(cloud, f"history_{seed}")
    names = [f"{i}.jpg" for i in range(30)]
    warehouse.put_images(names, 0)
    versions: dict[str, int] = {}
    runs = killed = stopped = 0
    for number in range(rounds):
        started = [warehouse.start("images", f"--run_id=r{number}-{i}", env={}) for i in range(at_once)]
        runs += at_once
        for i, name in enumerate(chance.sample(names, 8)):
            warehouse.put_images([name], 1000 * (number + 1) + i)
            time.sleep(chance.uniform(0, 0.3))
        if number % 2:
            time.sleep(chance.uniform(1, 6))
            started[0].send_signal(signal.SIGKILL)
            killed += 1
        else:
            time.sleep(chance.uniform(0, 4))
            take_over(warehouse, f"r{number}-0", started[0])
            stopped += 1
        for process in started:
            process.communicate()
        of_runs = [row["run_id"] for row in warehouse.query("SELECT run_id FROM images_runs")]
        check(len(of_runs) == len(set(of_runs)), f"round {number}: a run twice in the table")
        rows = warehouse.query("SELECT key, version, model_digest FROM images")
        keys = [(row["key"], row["model_digest"]) for row in rows]
        check(len(keys) == len(set(keys)), f"round {number}: a key twice in the table")
        for row in rows:
            version = int(row["version"])
            check(version >= versions.get(row["key"], 0), f"round {number}: {row['key']} went back to {version}")
            versions[row["key"]] = version
    warehouse.run("images")
    warehouse.run("scratch")
    check_equal(warehouse.rows("images"), warehouse.rows("scratch"))
    return Outcome(
        f"{at_once} runs at once on a bucket that changes, {killed} of {runs} killed, {stopped} taken over and woken",
        "`tests.torture.history`",
        runs,
        "one row a key and model, no version goes back, and the table is that of a run from scratch at the end",
    )


def run_on_s3(scratch: Path, rounds: int = 6, seed: int = 0) -> Outcome:
    """Lets two runs at once overlap on a bucket of S3 that changes, into one output there. Raises Broken."""
    chance = random.Random(seed)
    with object_servers.s3_server(scratch) as environment, object_servers.clients_of(environment):
        object_servers.make_bucket("s3://history")
        photos, output = "s3://history/photos", "s3://history/out"
        names = [f"{photos}/{i}.jpg" for i in range(30)]
        for i, name in enumerate(names):
            files.write(name, data.jpeg(i, 24, 32))
        variables = os.environ | environment
        runs = killed = stopped = 0
        for number in range(rounds):
            flags = [[f"--input={photos}/", f"--output={output}", f"--run_id=r{number}-{i}"] for i in range(2)]
            started = [fork_server.start(of_run, variables) for of_run in flags]
            for i, name in enumerate(chance.sample(names, 8)):
                files.write(name, data.jpeg(1000 * (number + 1) + i, 24, 32))
                time.sleep(chance.uniform(0, 0.3))
            time.sleep(chance.uniform(0, 4))
            if number % 2:
                started[0].send_signal(signal.SIGKILL)
                killed += 1
            else:
                started[0].send_signal(signal.SIGSTOP)
                code, said = stopping.run("elsewhere", *flags[0], env=variables)
                started[0].send_signal(signal.SIGCONT)
                check(code == 0, f"round {number}: the run cannot be taken over: {said}")
                stopped += 1
            for process in started:
                process.communicate()
            if number % 2:
                done = fork_server.run(flags[0], variables, 400)
                check(done.returncode == 0, done.stderr)
            runs += 2
        done = fork_server.run([f"--input={photos}/", f"--output={output}", "--run_id=last"], variables, 400)
        check(done.returncode == 0, done.stderr)
        left = [each.path for each in files.match(f"{output}/**") if "/." in each.path or "unfinished" in each.path]
        check(not left, f"left behind: {left}")
        reports = files.match(f"{output}/runs/*.json")
        check(len(reports) == runs + 1, f"{len(reports)} reports of {runs + 1} runs")
        verified = subprocess.run(
            [sys.executable, "-m", "pipeline", "verify", "--output", output, "--input", f"{photos}/"],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        check(verified.returncode == 0, verified.stdout)
    return Outcome(
        f"2 runs at once on a bucket of S3 that changes, {killed} of {runs} killed, {stopped} taken over and woken",
        "`tests.torture.history`",
        runs,
        "one report a run, each image has the record of its present version, and `verify` finds nothing",
    )


def take_over(warehouse: Warehouse, run_id: str, process: fork_server.Forked) -> None:
    """Stops a process, completes its run as one on another host, and wakes it."""
    stop_between_requests(warehouse, process)
    try:
        flags = warehouse.flags("images", f"--run_id={run_id}")
        code, said = stopping.run("elsewhere", *flags, env=warehouse.environment)
        check(code == 0, f"run {run_id} cannot be taken over: {said}")
    finally:
        process.send_signal(signal.SIGCONT)


def stop_between_requests(warehouse: Warehouse, process: fork_server.Forked) -> None:
    """Stops a process while no request of its is open: the emulator answers one request after the other."""
    while True:
        process.send_signal(signal.SIGSTOP)
        with contextlib.suppress(TimeoutError, urllib.error.URLError):
            urllib.request.urlopen(  # noqa: S310 - on this machine
                f"{warehouse.environment['STORAGE_EMULATOR_HOST']}/storage/v1/b?project=test", timeout=5
            )
            return
        process.send_signal(signal.SIGCONT)


def seeing(cloud: Cloud, directory: Path, rounds: int = 6, seed: int = 0) -> Outcome:
    """Hides files, directories and whole mounts from single runs with --prune, and checks the table after each.

    What is hidden comes back, or is hidden again. What is in sight changes meanwhile, comes and goes. Raises Broken.
    """
    chance = random.Random(seed)
    warehouse = Warehouse(cloud, f"seeing_{seed}")
    photos, away = directory / "photos", directory / "away"
    seeds = iter(range(10**6))
    images: dict[str, bytes] = {}  # all that exist

    def put(name: str) -> None:
        images[name] = data.jpeg(next(seeds), 24, 32)
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(images[name])

    def table() -> dict[str, str]:
        rows = warehouse.query("SELECT key, sha256 FROM images")
        return {row["key"].removeprefix(f"{photos}/"): row["sha256"] for row in rows}

    away.mkdir()
    for number in range(32):
        put(f"{number % 4}/{number % 8}/{number}.jpg")
    runs, refused = 1, 0
    warehouse.run("images", f"--input={photos}", "--prune")
    for number in range(rounds):
        places = {Path(name) for name in images} | {Path(name).parent for name in images}
        places |= {place.parent for place in places} - {Path()}
        hidden: list[Path] = []
        for place in chance.sample(sorted(places), 3):
            if not any(place.is_relative_to(other) or other.is_relative_to(place) for other in hidden):
                hidden.append(place)
                (photos / place).rename(away / str(len(hidden)))
                (photos / place).symlink_to(directory / "unmounted" / place)
        in_sight = [name for name in sorted(images) if not any(Path(name).is_relative_to(place) for place in hidden)]
        chosen = chance.sample(in_sight, min(6, len(in_sight)))
        for name in chosen[:2]:
            (photos / name).unlink()
            del images[name]
        for name in chosen[2:4]:
            put(name)
        for i, name in enumerate(chosen[4:]):
            put(f"{Path(name).parent}/new-{number}-{i}.jpg")
        warehouse.run("images", f"--input={photos}", "--prune")
        runs += 1
        check(table().keys() == images.keys(), f"round {number}: {sorted(table().keys() ^ images.keys())}")
        for place, name in zip(hidden, map(str, range(1, 4)), strict=False):
            (photos / place).unlink()
            (away / name).rename(photos / place)
        if number % 2:
            before = table()
            photos.rename(directory / "unmounted")
            photos.mkdir()
            (photos / "lost+found.jpg").write_bytes(data.jpeg(next(seeds), 24, 32))
            empty = warehouse.finish("images", f"--input={photos}", "--prune", "--no_resume")
            runs, refused = runs + 1, refused + 1
            check(empty.returncode == 1 and "--max_pruned" in empty.stderr, f"round {number}: {empty.stderr}")
            check(table() == before, f"round {number}: a run that was refused changed the table")
            (photos / "lost+found.jpg").unlink()
            photos.rmdir()
            (directory / "unmounted").rename(photos)
    warehouse.run("images", f"--input={photos}", "--prune", "--no_resume")
    runs += 1
    expected = {name: hashlib.sha256(content).hexdigest() for name, content in images.items()}
    check(table() == expected, "the table is not that of the images at the end")
    check(not [name for name in warehouse.tables() if "staging" in name], "a staging table is left")
    return Outcome(
        f"files and directories out of sight of a run with `--prune`, {refused} of {runs} times the whole mount",
        "`tests.torture.history`",
        runs,
        "the table is that of the images that exist, in sight or not; a run over an empty mount is refused",
    )
