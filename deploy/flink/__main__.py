"""Runs the command on a Flink cluster that lasts as long as the run: `python -m deploy.flink FLAGS…`."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.flink import cluster, jars


def main(flags: Sequence[str]) -> int:
    """Runs the command on a cluster, and returns its exit code."""
    if reason := cluster.missing():
        print(reason, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory() as directory, cluster.flink(Path(directory)) as started:
            print(f"Flink {jars.FLINK}, {cluster.TASK_MANAGERS} TaskManagers: {started.url}", flush=True)
            code = subprocess.run(
                [sys.executable, "run_pipeline.py", *started.flags, *flags], cwd=cluster.ROOT
            ).returncode
            for job in started.get("/jobs/overview")["jobs"]:
                tasks = f"{job['tasks']['finished']} of {job['tasks']['total']} tasks finished"
                print(f"Flink job {job['jid']}: {job['state']} after {job['duration'] / 1000:.1f} s, {tasks}")
            return code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
