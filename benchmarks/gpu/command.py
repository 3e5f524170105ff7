"""Measures a GPU in under ten minutes: `python -m benchmarks.gpu`, or `make bench-gpu`.

It compares the vectors of the job on the GPU with those of the CPU, the images a second of the whole job and of the
model alone with tf.data's, and decoder threads with decoder processes, each in float32 and in float16. ONNX Runtime
runs the same network as ONNX, in float32. Beside each job it samples how busy the GPU is, and it halves a batch that
does not fit into memory. `benchmarks/README.md` defines each number. Each part runs in a process of its own, so that
the next one has all memory of the GPU. Parts for which no time is left are skipped, and named. Without a GPU that
TensorFlow sees, the exit code is 2.
"""

import argparse
import dataclasses
import datetime
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import machine, models, photographs
from benchmarks.gpu import contenders, devices, inputs, measuring, table
from benchmarks.gpu.contenders import PRECISIONS
from benchmarks.gpu.measuring import MODEL, Bench
from benchmarks.gpu.model_alone import ONNX, OURS, SAVED_MODEL
from pipeline.runners import presets

_MINUTES = 9.5
# A part that loads TensorFlow and a model takes about as long.
_LEAST_SECONDS = 30.0
_RATE_IF_UNKNOWN = 500.0  # images a second
_CPU = "cpu"


class Part(NamedTuple):
    """A part of the benchmark: the list in the results that it belongs to, its name, and what measures it."""

    results: str
    name: str
    measure: Callable[[], dict[str, Any]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the tables, and returns the exit code: 1 if a part failed, 2 if TensorFlow sees no GPU."""
    began = time.monotonic()
    args = _parser().parse_args(argv)
    try:
        measured = devices.seen(args.device)
    except devices.NoGpu as error:
        print(f"bench-gpu: needs a machine where TensorFlow sees a GPU: {error}", file=sys.stderr)
        return 2
    model = dataclasses.replace(MODEL, batch_size=args.batch_size)
    results: dict[str, Any] = {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.description(),
        "versions": machine.versions(),
        "devices": dataclasses.asdict(measured),
        "model": model.name,
        "batch_size": model.batch_size,
        "photograph_size": args.size,
        "images": 0,
        **{name: [] for name in table.PARTS},
        "skipped": [],
    }
    scratch = args.cache / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        ends = began + 60 * args.minutes
        bench = Bench(measured, model, args.cache, Path(directory), tuple(args.size), args.seconds, ends)
        names = [part.name for part in (*_first_parts(bench, 0), *_parts(bench, 0))]
        if unknown := sorted(set(args.only or ()) - set(names)):
            print(f"bench-gpu: only={unknown}: expected some of {', '.join(names)}", file=sys.stderr)
            return 2
        _measure(bench, args, results)
    results["seconds"] = time.monotonic() - began
    _write(results, args.json)
    print(table.text(results))
    return int(any(part["error"] for part in table.parts(results)))


def _measure(bench: Bench, args: argparse.Namespace, results: dict[str, Any]) -> None:
    def run(parts: Iterable[Part]) -> None:
        for part in parts:
            if not args.only or part.name in args.only or part.name == _CPU:
                _run_part(part, bench, results)
                _write(results, args.json)

    batch_size = bench.model.batch_size
    first = args.images or inputs.whole_batches(measuring.DECODED_IMAGES, batch_size)
    bench.photographs(first)
    run(_first_parts(bench, min(measuring.CPU_IMAGES, first)))
    if any(part["error"] for part in results["cpu"]):  # nothing to compare with
        return
    count = results["images"] = args.images or inputs.count_for(_rates(results), bench.seconds, batch_size)
    bench.photographs(count)
    run(_parts(bench, count))


def _rates(results: dict[str, Any]) -> list[float]:
    """Returns how fast the model is in float32, and how fast the cores decode, as far as they have been measured."""
    alone = [each["images_per_second"] for each in results["models_alone"] if each["precision"] == "float32"]
    decoding = [each["steady_state"] for each in results["decode"]]
    return [rate for rate in (*alone, *decoding) if rate] or [_RATE_IF_UNKNOWN]


def _first_parts(bench: Bench, count: int) -> list[Part]:
    """Returns the parts that measure how many photographs the others need, and embed so many on the CPU."""
    return [
        Part("cpu", _CPU, functools.partial(measuring.cpu_vectors, bench, count)),
        Part("decode", "decode", functools.partial(measuring.decoding, bench)),
        *(_model_alone(bench, OURS, precision) for precision in PRECISIONS),
    ]


def _parts(bench: Bench, count: int) -> list[Part]:
    """Returns the parts over so many photographs, the most important ones first."""
    jobs = [
        Part("whole_jobs", job.name, functools.partial(measuring.whole_job, bench, job, count))
        for job in contenders.whole_jobs(bench.devices)
    ]
    halve = functools.partial(measuring.out_of_memory, bench, min(2 * contenders.TOO_LARGE_BATCH, count))
    onnx = [_model_alone(bench, ONNX, "float32")] if bench.devices.runs_onnx else []
    peers = [_model_alone(bench, SAVED_MODEL, precision) for precision in PRECISIONS]
    return [*jobs[:5], *onnx, Part("out_of_memory", "out-of-memory", halve), *jobs[5:], *peers]


def _model_alone(bench: Bench, engine: str, precision: str) -> Part:
    measure = functools.partial(measuring.model_alone, bench, engine, precision)
    return Part("models_alone", f"model-{engine.replace('_', '-')}-{precision}", measure)


def _run_part(part: Part, bench: Bench, results: dict[str, Any]) -> None:
    if bench.seconds_left < _LEAST_SECONDS:
        results["skipped"].append(part.name)
        print(f"{part.name}: skipped, {bench.seconds_left:.0f} s are left", file=sys.stderr, flush=True)
        return
    began = time.monotonic()
    measured = part.measure()
    results[part.results].append(measured)
    outcome = measured["error"] or table.outcome(measured)
    print(f"{part.name}: {outcome} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)


def _write(results: dict[str, Any], path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(results, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results to a file, after each part")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the parts, by their names in the log")
    parser.add_argument(
        "--minutes", type=float, default=_MINUTES, metavar="N", help="for all parts together (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="N",
        help="aimed at for the steady state of a job, and twice the time of a model alone (default: %(default)s)",
    )
    parser.add_argument(
        "--images",
        type=int,
        metavar="N",
        help=f"photographs (default: as many as take --seconds, {inputs.MOST} at most)",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=photographs.SMALL,
        metavar=("WIDTH", "HEIGHT"),
        help="of a photograph in pixels (default: 640 480)",
    )
    parser.add_argument(
        "--batch_size",
        type=int,
        default=presets.batch_size("dataflow-gpu"),
        metavar="N",
        help="images per call of the model (default: %(default)s)",
    )
    parser.add_argument(
        "--device",
        choices=[devices.GPU, devices.CPU],
        default=devices.GPU,
        help="CPU tries the benchmark itself: parts of the CPU take the place of GPUs, and the numbers say nothing "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=models.CACHE_DEFAULT,
        metavar="DIR",
        help="the directory for pictures, the model, logs of failures, and 2 GB during a run (default: %(default)s)",
    )
    return parser
