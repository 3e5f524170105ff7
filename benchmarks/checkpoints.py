"""The cost of checkpoints: runs with and without them in turn: `python -m benchmarks.checkpoints --input 'photos/**'`.

A checkpoint flushes the parts of a run twice a second, and syncs them every ten seconds. Without them, a part is
written as it fills up. Small images and a small model make the most records a second, and so the greatest share.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import machine
from benchmarks.models import ROOT

_WITHOUT = """
import sys
from pipeline import launch
from transforms.output import parts

parts._watch = lambda writer: None
sys.exit(launch.main(sys.argv[1:]))
"""
COMMANDS = {"with": ("run_pipeline.py",), "without": ("-c", _WITHOUT)}


def measure(flags: list[str], launcher: tuple[str, ...]) -> tuple[float, float]:
    """Returns the CPU seconds of a run, and its images a second between the first read and the model's last call."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, *launcher, *flags, "--output", output, "--run_id", "r"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        report = json.loads(Path(output, "runs", "r.json").read_text())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, report["counts"]["embedded"] / report["phases"]["work"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="All other flags are those of run_pipeline.py.")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="rounds (%(default)s)")
    args, flags = parser.parse_known_args()
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    print(machine.description())
    for _ in range(args.runs):
        for name, launcher in COMMANDS.items():
            runs[name].append(measure(flags, launcher))
    medians = {name: [statistics.median(values) for values in zip(*each, strict=True)] for name, each in runs.items()}
    for name, (seconds, rate) in medians.items():
        print(f"{name:8} checkpoints: {seconds:7.2f} CPU seconds, {rate:8.1f} images/s")
    cost = [each / other - 1 for each, other in zip(medians["with"], medians["without"], strict=True)]
    print(f"with them: {cost[0]:+.1%} CPU seconds, {cost[1]:+.1%} images/s")


if __name__ == "__main__":
    main()
