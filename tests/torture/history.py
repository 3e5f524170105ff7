"""A history: concurrent runs over a bucket that changes, some killed or stopped, and one table that follows it."""

import random
import signal
import time

from tests import fork_server, stopping
from tests.conftest import Cloud
from tests.test_warehouse_end_to_end import Warehouse, check_equal
from tests.torture.outcome import Outcome, check


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


def take_over(warehouse: Warehouse, run_id: str, process: fork_server.Forked) -> None:
    """Stops a process, completes its run as one on another host, and wakes it."""
    process.send_signal(signal.SIGSTOP)
    flags = warehouse.flags("images", f"--run_id={run_id}")
    code, said = stopping.run("elsewhere", *flags, env=warehouse.environment)
    check(code == 0, f"run {run_id} cannot be taken over: {said}")
    process.send_signal(signal.SIGCONT)
