"""Peak memory of a run against the number of images: `python -m benchmarks.memory [--counts 500 5000]`."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import data_generation as data

MAX_RATIO = 1.3

# The child reports its own peak: a parent's view of its children never goes down again.
_CHILD = """
import resource, sys
from pipeline.launch import main
code = main(sys.argv[1:])
print("PEAK_KIB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def measure(photos: Path, output: Path) -> tuple[float, dict]:
    """Embeds a directory; returns the peak resident memory in MiB, and the run's report."""
    command = [sys.executable, "-c", _CHILD, "--input", photos, "--output", output, "--run_id", "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("PEAK_KIB"))
    return int(peak) / 1024, json.loads((output / "runs" / "run.json").read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[500, 5000], metavar="N", help="images (%(default)s)")
    counts = parser.parse_args().counts
    peaks = []
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch, "photos")
        made = 0
        for count in sorted(counts):
            data.write_images(photos, count - made, start=made, height=480, width=640)
            made = count
            peak, report = measure(photos, Path(scratch, f"output-{count}"))
            peaks.append(peak)
            print(f"{count:6d} images: {peak:6.0f} MiB, {report['images_per_second']:.1f} images/s, {report['counts']}")
    ratio = peaks[-1] / peaks[0]
    print(f"ratio {ratio:.2f}, expected at most {MAX_RATIO}")
    return int(ratio > MAX_RATIO)


if __name__ == "__main__":
    sys.exit(main())
