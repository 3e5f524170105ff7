"""Peak memory of a run by its number of images and by its batch size: `python -m benchmarks.memory`.

With --small, the images are thumbnails and the model only averages. So the number of images can be greater.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import models, photographs
from benchmarks.models import AVERAGES, ROOT

COUNTS = (1000, 20_000)
ALL_COUNTS = (500, 1000, 5000, 20_000)
BATCH_SIZES = (1, 32, 128)
_IMAGES_PER_BATCH_SIZE = 500
MAX_RATIO = 1.2
SMALL_COUNTS = (20_000, 100_000)
SMALL_MAX_RATIO = 1.15

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


def by_images(
    counts: Sequence[int],
    cache: Path | None = None,
    size: tuple[int, int] = photographs.SMALL,
    flags: Sequence[str] = (),
) -> Iterator[dict]:
    """Yields `images`, `peak_mib` and `images_per_second` of one run per number of photographs.

    Args:
      counts: numbers of photographs, in ascending order.
      cache: the directory for temporary photographs; None for the system's temporary directory.
      size: (width, height) of the photographs in pixels.
      flags: further flags of each run.
    """
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        start = 0
        for count in counts:
            _make(Path(scratch, "photographs"), start, count, size)
            start = count
            yield {"images": count, **_measure(Path(scratch), f"{count}", *flags)}


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


def peak_mib(*flags: str) -> float:
    """Returns the peak memory of a run of the command in MiB. Raises RuntimeError if it fails."""
    done = subprocess.run([sys.executable, "-c", _CHILD, *flags], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the run {flags} ended with exit code {done.returncode}: {done.stderr[-2000:]}")
    return next(int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("PEAK_KIB")) / 1024


def _make(directory: Path, start: int, end: int, size: tuple[int, int] = photographs.SMALL) -> None:
    """Makes the photographs numbered from `start` up to `end`, no two with the same bytes."""
    directory.mkdir(exist_ok=True)
    pictures = [photographs.encoded(number, size) for number in range(_PICTURES)]
    for number in range(start, end):
        (directory / f"{number:05d}.jpg").write_bytes(photographs.numbered(pictures, number))


def _measure(scratch: Path, name: str, *flags: str) -> dict:
    output = scratch / f"output-{name}"
    peak = peak_mib("--input", str(scratch / "photographs"), "--output", str(output), "--run_id", "run", *flags)
    report = json.loads((output / "runs" / "run.json").read_text())
    counts = {name: count for name, count in report["counts"].items() if count}
    if counts["embedded"] != counts["listed"]:
        raise RuntimeError(f"{counts}: expected all images to be embedded")
    return {"peak_mib": peak, "images_per_second": report["images_per_second"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--counts", type=int, nargs="+", metavar="N", help=f"images ({COUNTS}; with --small {SMALL_COUNTS})"
    )
    parser.add_argument("--small", action="store_true", help="thumbnails, and a model that only averages")
    parser.add_argument(
        "--cache", type=Path, default=models.CACHE_DEFAULT, metavar="DIR", help="for that model (%(default)s)"
    )
    parser.add_argument(
        "--batch_sizes", type=int, nargs="*", default=(), metavar="N", help="images per batch, for further runs (none)"
    )
    args = parser.parse_args()
    runs = []
    counts = sorted(args.counts or (SMALL_COUNTS if args.small else COUNTS))
    max_ratio = SMALL_MAX_RATIO if args.small else MAX_RATIO
    size, flags = photographs.SMALL, ()
    if args.small:
        saved_model = models.make(AVERAGES, args.cache)
        models.fill_cache(saved_model, {})
        size, flags = photographs.THUMBNAIL, ("--model", str(saved_model))
    for run in by_images(counts, None, size, flags):
        runs.append(run)
        print(f"{run['images']:6d} images: {run['peak_mib']:6.0f} MiB, {run['images_per_second']:.1f} images/s")
    for run in by_batch_size(args.batch_sizes):
        print(f"batches of {run['batch_size']:4d}: {run['peak_mib']:6.0f} MiB, {run['images_per_second']:.1f} images/s")
    growth = ratio(runs, min(counts), max(counts))
    print(f"ratio {growth:.2f}, expected at most {max_ratio}")
    return int(growth > max_ratio)


if __name__ == "__main__":
    sys.exit(main())
