"""Peak memory of a run against the number of images, and against the batch size: `python -m benchmarks.memory`."""

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
_IMAGES_A_BATCH_SIZE = 500
MAX_RATIO = 1.2

# Enough that no two that are read together are one picture; the rest are copies with a comment of their own.
_PICTURES = 200

# The child reports its own peak: a parent's view of its children never goes down again.
_CHILD = """
import resource, sys
from pipeline.launch import main
code = main(sys.argv[1:])
print("PEAK_KIB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def by_images(counts: Sequence[int], cache: Path | None = None) -> Iterator[dict]:
    """Yields what runs over so many photographs took: `images`, `peak_mib`, `images_per_second`.

    Args:
      counts: rising.
      cache: on whose file system the photographs are made; None for the system's place for temporary files.
    """
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        made = 0
        for count in counts:
            _make(Path(scratch, "photographs"), made, count)
            made = count
            yield {"images": count, **_measure(Path(scratch), f"{count}")}


def by_batch_size(batch_sizes: Sequence[int], cache: Path | None = None) -> Iterator[dict]:
    """Yields what runs with these batch sizes took: `batch_size`, and as `by_images`."""
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        _make(Path(scratch, "photographs"), 0, _IMAGES_A_BATCH_SIZE)
        for batch_size in batch_sizes:
            taken = _measure(Path(scratch), f"{batch_size}", "--batch_size", str(batch_size))
            yield {"batch_size": batch_size, "images": _IMAGES_A_BATCH_SIZE, **taken}


def ratio(taken: Sequence[dict], fewer: int = COUNTS[0], more: int = COUNTS[1]) -> float | None:
    """Returns how many times the peak at `fewer` images that at `more` is; None where one was not measured."""
    peaks = {one["images"]: one["peak_mib"] for one in taken if "batch_size" not in one}
    return peaks[more] / peaks[fewer] if {fewer, more} <= peaks.keys() else None


def _make(directory: Path, start: int, end: int) -> None:
    """Makes the photographs of 640×480 numbered from `start` to `end`, no two of the same bytes."""
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
    given = ["--input", str(scratch / "photographs"), "--output", str(output), "--run_id", "run", *flags]
    done = subprocess.run([sys.executable, "-c", _CHILD, *given], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the run over {name} ended with exit code {done.returncode}: {done.stderr[-2000:]}")
    peak = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("PEAK_KIB"))
    report = json.loads((output / "runs" / "run.json").read_text())
    counts = {what: count for what, count in report["counts"].items() if count}
    if counts["embedded"] != counts["listed"]:
        raise RuntimeError(f"{counts}: expected all to be embedded")
    return {"peak_mib": int(peak) / 1024, "images_per_second": report["images_per_second"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, metavar="N", help="images (%(default)s)")
    parser.add_argument(
        "--batch_sizes", type=int, nargs="*", default=(), metavar="N", help="images a batch, to measure too (none)"
    )
    given = parser.parse_args()
    taken = []
    for one in by_images(sorted(given.counts)):
        taken.append(one)
        print(f"{one['images']:6d} images: {one['peak_mib']:6.0f} MiB, {one['images_per_second']:.1f} images/s")
    for one in by_batch_size(given.batch_sizes):
        print(f"batches of {one['batch_size']:4d}: {one['peak_mib']:6.0f} MiB, {one['images_per_second']:.1f} images/s")
    found = ratio(taken, min(given.counts), max(given.counts))
    print(f"ratio {found:.2f}, expected at most {MAX_RATIO}")
    return int(found > MAX_RATIO)


if __name__ == "__main__":
    sys.exit(main())
