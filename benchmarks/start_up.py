"""Start-up: the seconds of the command's help, and of importing the libraries that it needs."""

import subprocess
import sys
import time

from benchmarks.models import ROOT

COMMANDS = {
    "run_pipeline.py --help": ("run_pipeline.py", "--help"),
    "import apache_beam": ("-c", "import apache_beam"),
    "import tensorflow": ("-c", "import tensorflow"),
}


def measure(rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each command in each round; an earlier round, not counted, warms the page cache."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds
