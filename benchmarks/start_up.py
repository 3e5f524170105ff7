"""Start-up: seconds of the command's help, of importing what it needs, and of a run over the samples.

`python -m benchmarks.start_up` prints them. The goal is a first vector within 1.5 times `import apache_beam`.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import measures
from benchmarks.models import ROOT
from benchmarks.peers import contract

BEAM, FIRST_VECTOR = "import apache_beam", "the samples, to the first vector"
COMMANDS = {
    "run_pipeline.py --help": ("run_pipeline.py", "--help"),
    BEAM: ("-c", "import apache_beam"),
    "import tensorflow": ("-c", "import tensorflow"),
}
SAMPLES = "the samples"


def measure(rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each command in each round; an earlier round, not counted, warms the page cache."""
    seconds: dict[str, list[float]] = {name: [] for name in (*COMMANDS, FIRST_VECTOR, SAMPLES)}
    for number in range(rounds + 1):
        of_round = {name: _seconds(*arguments) for name, arguments in COMMANDS.items()}
        of_round[FIRST_VECTOR], of_round[SAMPLES] = _samples()
        if number:
            for name, each in of_round.items():
                seconds[name].append(each)
    return seconds


def _samples() -> tuple[float, float]:
    """Returns the seconds of a run over the samples, to its first vector and to its end."""
    with tempfile.TemporaryDirectory() as output:
        began = time.time()
        whole = _seconds("-m", "benchmarks.ours", output, "--output", output)
        first, *_ = measures.read_batches(Path(output, contract.BATCHES))
        return first.ended - began, whole


def _seconds(*arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="rounds (%(default)s)")
    seconds = measure(parser.parse_args().runs)
    spreads = {name: measures.spread(of_rounds) for name, of_rounds in seconds.items()}
    for name, spread in spreads.items():
        if spread:
            print(f"{name:34} {spread.median:5.2f} s ({spread.least:.2f}–{spread.greatest:.2f})")
    if ratio := measures.ratio(spreads[FIRST_VECTOR], spreads[BEAM]):
        print(f"{FIRST_VECTOR}: {ratio:.2f} times {BEAM}")


if __name__ == "__main__":
    main()
