"""Measures this project against its peers and against the machine: `python -m benchmarks.suite`, or `make bench`.

Photographs, models and environments are made on first use and kept. Then every contender runs in turn, and again in
each further round, so that whatever drifts on a machine drifts for all; the table has medians, least and greatest.
`benchmarks/README.md` defines each number.
"""

import argparse
import dataclasses
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import contenders, environments, machine, memory, models, photographs, rounds, start_up, table
from benchmarks.contenders import Contender
from benchmarks.models import MODELS, Model

START_UP, MEMORY = "start_up", "memory"

_EPILOG = """\
examples:
  python -m benchmarks.suite --json results.json
  python -m benchmarks.suite --images 300 --runs 1 --only ours plain   a first look, in two minutes
  python -m benchmarks.suite --models inception_resnet_v2

Rates are images a second, times are seconds, memory is MiB.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the table and returns an exit code: 1 where a run failed."""
    known = contenders.all_of_them()
    names = [*(contender.name for contender in known), START_UP, MEMORY]
    given = _parser(names).parse_args(argv)
    wanted = given.only or names
    chosen = [contender for contender in known if contender.name in wanted]
    try:
        for contender in chosen:
            environments.python(contender.environment, given.cache)
    except subprocess.CalledProcessError as error:
        print(f"no environment for {contender.name!r}: {error}; leave it out with --only", file=sys.stderr)
        return 2
    results: dict[str, Any] = {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.described(),
        "versions": machine.versions(),
        "models": [],
    }
    scratch = given.cache / "scratch"  # beside the photographs, which are linked to
    scratch.mkdir(parents=True, exist_ok=True)
    for name in given.models if chosen else []:
        with tempfile.TemporaryDirectory(dir=scratch) as outputs:
            results["models"].append(_measure(MODELS[name], chosen, given, Path(outputs)))
        _keep(results, given.json)
    if START_UP in wanted:
        results[START_UP] = start_up.measure(given.runs)
        _keep(results, given.json)
    if MEMORY in wanted:
        results[MEMORY] = [*memory.by_images(memory.ALL_COUNTS, scratch)]
        results[MEMORY] += memory.by_batch_size(memory.BATCH_SIZES, scratch)
        _keep(results, given.json)
    print(table.text(results))
    return int(any(run["error"] for model in results["models"] for row in model["contenders"] for run in row["runs"]))


def _keep(results: dict, path: Path | None) -> None:
    """Writes what there is so far: the whole takes an hour."""
    if path:
        path.write_text(json.dumps(results, indent=2) + "\n")


def _measure(model: Model, chosen: Sequence[Contender], given: argparse.Namespace, scratch: Path) -> dict:
    saved_model = models.make(model, given.cache)
    images = given.images or model.images
    laid_out = scratch / f"photographs-{model.name}"
    size = photographs.lay_out(photographs.make(given.cache / "photographs-1", images), laid_out)
    if model.handle:  # there is nothing to be found out about it
        chosen = [contender for contender in chosen if not contender.is_first]
    else:
        models.know(saved_model, contenders.kept_in(given.cache / "kept"))
    runs: dict[str, list[rounds.Run]] = {contender.name: [] for contender in chosen}
    reference: rounds.Vectors = {}
    for number in range(1, given.runs + 1):
        for contender in chosen:
            output = scratch / f"{model.name}-{contender.name}-{number}"
            command = contender.command(laid_out, saved_model, model, output, given.cache)
            variables = contender.environment_variables(output, given.cache)
            run = rounds.run(command, variables, output, images, contender.writes_vectors, reference)
            runs[contender.name].append(run)
            said = run.error or f"{run.seconds:.1f} s, steady state {run.steady_state or 0:.1f} images/s"
            print(
                f"{model.name}, round {number} of {given.runs}, {contender.name}: {said}", file=sys.stderr, flush=True
            )
            if not run.error:  # of a failed one the log may be wanted
                shutil.rmtree(output)
            shutil.rmtree(output.with_suffix(".kept"), ignore_errors=True)
    return {
        "name": model.name,
        "images": images,
        "bytes": size,
        "batch_size": model.batch_size,
        "runs": given.runs,
        "contenders": [
            {
                "name": contender.name,
                "kind": contender.kind,
                "what": contender.what,
                "roof": contender.roof,
                "runs": [dataclasses.asdict(run) for run in runs[contender.name]],
            }
            for contender in chosen
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
        help="photographs, every third 1600x1200 and the others 640x480 (default: "
        + ", ".join(f"{model.images} for {model.name}" for model in MODELS.values())
        + ")",
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default: all of them")
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="NAME", help=f"some of: {', '.join(names)}; default: all"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write what was measured, run by run, to a file too")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        / "beam-image-embeddings"
        / "benchmarks",
        metavar="DIR",
        help="where photographs (0.4 GB), models (0.3 GB) and environments (4 GB) are kept (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
