"""Milliseconds an image for which the process with the model holds Python's lock: `python -m benchmarks.lock_time`.

py-spy samples `run_pipeline.py` over thumbnails with a model that only averages. While a thread holds the lock, no
other thread runs Python, however many cores there are. So a process feeds at most one image in that time. py-spy has to
be on the PATH; this project does not need it otherwise (`pip install py-spy`).
"""

import argparse
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import contenders, machine, models, photographs, small_images
from benchmarks.models import AVERAGES, ROOT
from pipeline.report.run_report import RunReport

_SAMPLES_PER_SECOND = 200
# Frames of a bundle's work in Beam, and of the first bundle that loads the model.
_BUNDLE, _LOADING = "process_bundle (", "_load_once ("
_OWN_CODE = re.compile(r"\((?:.*?/)??(apache_beam|(?:transforms|pipeline)/[^:/]+)[/:]")
_PLACES = 12


@dataclasses.dataclass(frozen=True)
class LockTime:
    """Seconds for which a run held the lock.

    Attributes:
      whole: in all of the run.
      bundles: in the bundles of its stages, where the first one also loads the model.
      loading: in bundles, for loading the model.
      places: in bundles and not for loading, by the file or folder of the innermost frame of this project or Beam.
    """

    whole: float
    bundles: float
    loading: float
    places: dict[str, float]


def read(profile: Iterable[str], samples_per_second: int = _SAMPLES_PER_SECOND) -> LockTime:
    """Returns the times of a profile in py-spy's raw format: per line a stack, outermost first, and its samples."""
    whole = bundles = loading = 0
    places: Counter[str] = Counter()
    for line in profile:
        stack, _, text = line.rpartition(" ")
        samples = int(text)
        whole += samples
        if _BUNDLE not in stack:
            continue
        bundles += samples
        if _LOADING in stack:
            loading += samples
            continue
        in_own_code = (match[1] for frame in reversed(stack.split(";")) if (match := _OWN_CODE.search(frame)))
        places[next(in_own_code, "other")] += samples
    seconds = {place: samples / samples_per_second for place, samples in places.most_common()}
    return LockTime(*(samples / samples_per_second for samples in (whole, bundles, loading)), seconds)


def measure(
    flags: Sequence[str], inputs: Path, saved_model: Path, cache: Path, scratch: Path
) -> tuple[LockTime, RunReport]:
    """Returns the times of one run of the command with further flags, and its report.

    Raises:
      RuntimeError: if py-spy or the command fails.
    """
    profile, output = scratch / "profile", scratch / "output"
    sampler = ("py-spy", "record", "--gil", "--rate", _SAMPLES_PER_SECOND, "--format", "raw", "--output", profile, "--")
    paths = ("--input", inputs, "--output", output, "--model", saved_model)
    command = [*sampler, sys.executable, "run_pipeline.py", *paths, "--batch_size", AVERAGES.batch_size, *flags]
    environment = os.environ | contenders.cache_variables(cache / "models-cache")
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True)
    reports = list(output.glob("runs/*.json"))
    if done.returncode or not reports:
        raise RuntimeError(f"py-spy ended with exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    return read(profile.read_text().splitlines()), RunReport.from_json(reports[0].read_bytes())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lock_time", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=AVERAGES.images, metavar="N", help="thumbnails (%(default)s)")
    parser.add_argument("--cache", type=Path, default=models.CACHE_DEFAULT, metavar="DIR", help="(%(default)s)")
    args = parser.parse_args(argv)
    if not shutil.which("py-spy"):
        print("benchmarks.lock_time: no py-spy on the PATH: pip install py-spy", file=sys.stderr)
        return 2
    scratch = args.cache / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    saved_model = models.make(AVERAGES, args.cache)
    models.fill_cache(saved_model, contenders.cache_variables(args.cache / "models-cache"))
    thumbnails = photographs.make(args.cache / photographs.THUMBNAILS, args.images, photographs.THUMBNAIL)
    print(f"{machine.description()['cpu']}, {machine.description()['cores']} cores; {args.images} images of 64×64")
    for processes in small_images.MODES.values():
        flags = ("--decode_processes", processes)
        with tempfile.TemporaryDirectory(dir=scratch) as of_run:
            inputs = Path(of_run, "photographs")
            photographs.lay_out(thumbnails, inputs)
            held, report = measure(flags, inputs, saved_model, args.cache, Path(of_run))
        each = 1000 / args.images
        print(
            f"\nrun_pipeline.py {' '.join(flags)}: {held.bundles * each:.3f} ms an image ({held.bundles:.1f} s in "
            f"bundles; {held.loading:.1f} s of it for loading the model; {held.whole:.1f} s in the whole run)\n"
            f"  the report of the run: {report.feed or 'too few images to tell'}; {report.verdict}\n"
            f"  without loading {(held.bundles - held.loading) * each:.3f} ms; of these, µs an image:"
        )
        for place, seconds in list(held.places.items())[:_PLACES]:
            print(f"  {seconds * each * 1000:6.1f}  {place}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
