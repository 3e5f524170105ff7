"""Measures this project, its peers and the limits of the machine: `python -m benchmarks.suite`, or `make bench`.

Photographs, models and environments are made on first use. In each round every contender runs once, so that a drift of
the machine affects all of them. The table has medians, least and greatest values.
`benchmarks/README.md` defines each number.
"""

import argparse
import dataclasses
import datetime
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import (
    contenders,
    environments,
    machine,
    memory,
    models,
    onnx_contenders,
    photographs,
    rounds,
    small_images,
    start_up,
    table,
)
from benchmarks.contenders import Contender
from benchmarks.models import MODELS, Model

ONNX = "onnx"
SMALL_IMAGES, SIMULATED_DEVICE, START_UP, MEMORY = "small_images", "simulated_device", "start_up", "memory"

_EPILOG = """\
examples:
  python -m benchmarks.suite --json results.json
  python -m benchmarks.suite --images 300 --runs 1 --only ours plain   a quick test, in two minutes
  python -m benchmarks.suite --models inception_resnet_v2
  python -m benchmarks.suite --only small_images simulated_device

Rates are images per second, times are seconds, memory is MiB.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the table, and returns the exit code: 1 if a run failed, 2 if an environment cannot be made."""
    available = contenders.available()
    names = [*(contender.name for contender in available), ONNX, SMALL_IMAGES, SIMULATED_DEVICE, START_UP, MEMORY]
    args = _parser(names).parse_args(argv)
    selected = args.only or names
    selection = [contender for contender in available if contender.name in selected]
    try:
        for contender in selection:
            environments.python(contender.environment, args.cache)
    except subprocess.CalledProcessError as error:
        print(f"no environment for {contender.name!r}: {error}; use --only to leave it out", file=sys.stderr)
        return 2
    results: dict[str, Any] = {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.description(),
        "versions": machine.versions(),
        "models": [],
    }
    scratch = args.cache / "scratch"  # on the file system of the photographs, for hard links
    scratch.mkdir(parents=True, exist_ok=True)
    for name in args.models if selection else []:
        with tempfile.TemporaryDirectory(dir=scratch) as outputs:
            results["models"].append(_measure(MODELS[name], selection, args, Path(outputs)))
        _write(results, args.json)
    parts = {
        ONNX: (models.ONNX, onnx_contenders.contenders()),
        SMALL_IMAGES: (models.AVERAGES, small_images.contenders(args.cores)),
        SIMULATED_DEVICE: (models.OF_DEVICES, small_images.simulated_devices(args.cores)),
    }
    for part, (model, of_part) in parts.items():
        if part in selected:
            with tempfile.TemporaryDirectory(dir=scratch) as outputs:
                results[part] = _measure(model, of_part, args, Path(outputs))
            _write(results, args.json)
    if START_UP in selected:
        results[START_UP] = start_up.measure(args.runs)
        _write(results, args.json)
    if MEMORY in selected:
        results[MEMORY] = [*memory.by_images(memory.ALL_COUNTS, scratch)]
        results[MEMORY] += memory.by_batch_size(memory.BATCH_SIZES, scratch)
        _write(results, args.json)
    print(table.text(results))
    measured = [*results["models"], *(results[part] for part in parts if part in results)]
    return int(any(run["error"] for model in measured for row in model["contenders"] for run in row["runs"]))


def _write(results: dict, path: Path | None) -> None:
    """Writes the results so far, because all of them take an hour."""
    if path:
        path.write_text(json.dumps(results, indent=2) + "\n")


def _measure(model: Model, selection: Sequence[Contender], args: argparse.Namespace, scratch: Path) -> dict:
    saved_model = models.make(model, args.cache)
    images = args.images or model.images
    inputs = scratch / f"photographs-{model.name}"
    directory = photographs.THUMBNAILS if model.photograph_size else photographs.PHOTOGRAPHS
    size = photographs.lay_out(photographs.make(args.cache / directory, images, model.photograph_size), inputs)
    if model.handle:  # this project caches nothing about a model in the package
        selection = [contender for contender in selection if not contender.is_first]
    else:
        models.fill_cache(saved_model, contenders.cache_variables(args.cache / "models-cache"))
    runs: dict[Contender, list[rounds.Run]] = {contender: [] for contender in selection}
    reference: rounds.Vectors = {}
    for number in range(1, args.runs + 1):
        for contender in selection:
            output = scratch / f"{model.name}-{contender.directory}-{number}"
            command = contender.command(inputs, saved_model, model, output, args.cache)
            variables = contender.environment_variables(output, args.cache)
            run = rounds.run(command, variables, output, images, contender.writes_vectors, reference)
            runs[contender].append(run)
            outcome = run.error or f"{run.seconds:.1f} s, steady state {run.steady_state or 0:.1f} images/s"
            print(
                f"{model.name}, round {number} of {args.runs}, {contender.directory}: {outcome}",
                file=sys.stderr,
                flush=True,
            )
            if not run.error:  # a failed run's files may explain it
                shutil.rmtree(output)
            shutil.rmtree(output.with_suffix(".cache"), ignore_errors=True)
    return {
        "name": model.name,
        "images": images,
        "bytes": size,
        "batch_size": model.batch_size,
        "runs": args.runs,
        "contenders": [
            {
                "name": contender.name,
                "kind": contender.kind,
                "what": contender.description,
                "roof": contender.roof,
                "cores": contender.cores,
                "device_rate": contender.device_rate,
                "runs": [dataclasses.asdict(run) for run in runs[contender]],
            }
            for contender in selection
        ],
    }


def _parser(names: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suite",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="rounds (default: %(default)s)")
    parser.add_argument(
        "--images",
        type=int,
        metavar="N",
        help="photographs, every third 1600x1200 and the others 640x480; or thumbnails of 64x64 (default: "
        + ", ".join(f"{model.images} for {model.name}" for model in (*MODELS.values(), models.AVERAGES))
        + ")",
    )
    parser.add_argument(
        "--cores",
        nargs="+",
        type=int,
        default=small_images.cores_default(),
        metavar="N",
        help=f"numbers of cores for {SMALL_IMAGES} and {SIMULATED_DEVICE} (default: 1 and 2, where there are so many)",
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default: all of them")
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="NAME", help=f"some of: {', '.join(names)} (default: all)"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results, run by run, to a file")
    parser.add_argument(
        "--cache",
        type=Path,
        default=models.CACHE_DEFAULT,
        metavar="DIR",
        help="the directory for photographs (0.4 GB), models (0.3 GB) and environments (4 GB) (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
