"""Peak memory of a run by its number of images and by its batch size: `python -m benchmarks.memory`."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import photographs
from benchmarks.models import ROOT

COUNTS = (1000, 20_000)
ALL_COUNTS = (500, 1000, 5000, 20_000)
BATCH_SIZES = (1, 32, 128)
_IMAGES_PER_BATCH_SIZE = 500
MAX_RATIO = 1.2

# With so many, no picture is read twice at a time. The other photographs are copies, each with a comment of its own.
_PICTURES = 200

# The child reports its own peak, because a parent sees only the greatest peak of all its children.
_CHILD = """
import resource, sys
from pipeline.launch import main
code = main(sys.argv[1:])
print("PEAK_KIB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def by_images(counts: Sequence[int], cache: Path | None = None) -> Iterator[dict]:
    """Yields `images`, `peak_mib` and `images_per_second` of one run per number of photographs.

    Args:
      counts: numbers of photographs, in ascending order.
      cache: the directory for temporary photographs; None for the system's temporary directory.
    """
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        start = 0
        for count in counts:
            _make(Path(scratch, "photographs"), start, count)
            start = count
            yield {"images": count, **_measure(Path(scratch), f"{count}")}


def by_batch_size(batch_sizes: Sequence[int], cache: Path | None = None) -> Iterator[dict]:
    """Yields `batch_size`, and the same as `by_images`, of one run per batch size."""
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        _make(Path(scratch, "photographs"), 0, _IMAGES_PER_BATCH_SIZE)
        for batch_size in batch_sizes:
            measured = _measure(Path(scratch), f"{batch_size}", "--batch_size", str(batch_size))
            yield {"batch_size": batch_size, "images": _IMAGES_PER_BATCH_SIZE, **measured}


def ratio(runs: Sequence[dict], fewer: int = COUNTS[0], more: int = COUNTS[1]) -> float | None:
    """Returns the peak at `more` images divided by the peak at `fewer`; None if either was not measured."""
    peaks = {run["images"]: run["peak_mib"] for run in runs if "batch_size" not in run}
    return peaks[more] / peaks[fewer] if {fewer, more} <= peaks.keys() else None


def _make(directory: Path, start: int, end: int) -> None:
    """Makes the 640×480 photographs numbered from `start` up to `end`, no two with the same bytes."""
    directory.mkdir(exist_ok=True)
    for number in range(start, end):
        path = directory / f"{number:05d}.jpg"
        if number < _PICTURES:
            path.write_bytes(photographs.encoded(number, photographs.SMALL))
        else:
            original = directory / f"{number % _PICTURES:05d}.jpg"
            path.write_bytes(photographs.with_comment(original.read_bytes(), b"%d" % number))


def _measure(scratch: Path, name: str, *flags: str) -> dict:
    output = scratch / f"output-{name}"
    arguments = ["--input", str(scratch / "photographs"), "--output", str(output), "--run_id", "run", *flags]
    done = subprocess.run([sys.executable, "-c", _CHILD, *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the run over {name} ended with exit code {done.returncode}: {done.stderr[-2000:]}")
    peak = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("PEAK_KIB"))
    report = json.loads((output / "runs" / "run.json").read_text())
    counts = {name: count for name, count in report["counts"].items() if count}
    if counts["embedded"] != counts["listed"]:
        raise RuntimeError(f"{counts}: expected all images to be embedded")
    return {"peak_mib": int(peak) / 1024, "images_per_second": report["images_per_second"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, metavar="N", help="images (%(default)s)")
    parser.add_argument(
        "--batch_sizes", type=int, nargs="*", default=(), metavar="N", help="images per batch, for further runs (none)"
    )
    args = parser.parse_args()
    runs = []
    for run in by_images(sorted(args.counts)):
        runs.append(run)
        print(f"{run['images']:6d} images: {run['peak_mib']:6.0f} MiB, {run['images_per_second']:.1f} images/s")
    for run in by_batch_size(args.batch_sizes):
        print(f"batches of {run['batch_size']:4d}: {run['peak_mib']:6.0f} MiB, {run['images_per_second']:.1f} images/s")
    growth = ratio(runs, min(args.counts), max(args.counts))
    print(f"ratio {growth:.2f}, expected at most {MAX_RATIO}")
    return int(growth > MAX_RATIO)


if __name__ == "__main__":
    sys.exit(main())
