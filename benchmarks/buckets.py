"""Measures this project and its peers from buckets, and from local files in the same run: `make bench-buckets`.

In each round every contender runs once from every source that it reads. `benchmarks/README.md` defines each number.
"""

import argparse
import dataclasses
import datetime
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks import bucket_servers, contenders, gets, machine, measures, models, photographs, rounds
from benchmarks.bucket_servers import Source
from benchmarks.contenders import OURS, PEER, Contender
from benchmarks.models import Model
from benchmarks.table import aligned
from tests.helpers import object_servers
from transforms.concurrent.cores import usable_cores

MODELS = {
    "small": dataclasses.replace(models.AVERAGES, images=6000),
    "photographs": dataclasses.replace(models.MODELS["efficientnet_lite0"], images=600),
}
GETS = "gets"
_MODES = {"ours-threads": "0", "ours-processes": "cores"}
_DAFT_ALONE = "daft-decode"
_HEAD = ("", "from", "cores", "steady state", "× files", "core, ms", "server, ms", "whole job", "what")

Row = tuple[str, str, int]  # contender, source, cores


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the tables, and returns the exit code: 1 if a run failed."""
    args = _parser().parse_args(argv)
    scratch = args.cache / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    print(_circumstances(), flush=True)
    failed = False
    for part in args.only:
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            if part == GETS:
                print("\n" + "\n".join(gets.table(gets.measure(args.cache, Path(directory)))), flush=True)
                continue
            runs = _measure(part, args, Path(directory))
        print("\n" + "\n".join(_table(part, args, runs)), flush=True)
        failed |= any(run.error for of_row in runs.values() for run in of_row)
        if args.json:
            found = {f"{name}, {source}, {cores}": rows for (name, source, cores), rows in runs.items()}
            content = {key: [dataclasses.asdict(run) for run in rows] for key, rows in found.items()}
            args.json.with_stem(f"{args.json.stem}-{part}").write_text(json.dumps(content, indent=2) + "\n")
    return int(failed)


def _contenders(part: str, source: str, cores: int) -> Iterator[Contender]:
    """Yields the contenders that read from a source, on a number of cores."""
    for name, processes in _MODES.items():
        flags = ("--decode_processes", processes)
        yield Contender(name, OURS, f"run_pipeline.py {' '.join(flags)}", "ours", flags, cores=cores)
    if source.startswith("gs"):
        what = "a script: google-cloud-storage and Pillow in 16 threads"
        yield Contender("plain", PEER, what, "google_storage.py", cores=cores)
    if source == "s3 http":
        what, daft = "Daft: download, decode_image, resize", "daft_dataframe.py"
        if part == "small":  # photographs are at the speed of the model
            yield Contender(_DAFT_ALONE, PEER, f"{what}, no model", daft, ("--embed", "0"), "daft", cores=cores)
        yield Contender("daft", PEER, f"{what}, a batch method", daft, (), "daft", cores=cores)
        yield Contender("ray", PEER, "Ray Data, read_images, map_batches", "ray_data.py", (), "ray", cores=cores)


def _measure(part: str, args: argparse.Namespace, scratch: Path) -> dict[Row, list[rounds.Run]]:
    model = dataclasses.replace(MODELS[part], images=args.images or MODELS[part].images)
    saved_model = models.make(model, args.cache)
    if not model.handle:
        models.fill_cache(saved_model, contenders.cache_variables(args.cache / "models-cache"))
    kind = photographs.THUMBNAILS if model.photograph_size else photographs.PHOTOGRAPHS
    files, servers = scratch / "files", scratch / "servers"
    servers.mkdir()
    photographs.lay_out(photographs.make(args.cache / kind, model.images, model.photograph_size), files)
    runs: dict[Row, list[rounds.Run]] = {}
    reference: rounds.Vectors = {}
    with bucket_servers.started(files, servers) as sources:
        for number in range(1, args.runs + 1):
            for cores in args.cores:
                for source in sources:
                    for contender in _contenders(part, source.name, cores):
                        if args.contenders and contender.name not in args.contenders:
                            continue
                        if args.cold:
                            _forget([*files.iterdir(), *servers.rglob("*.jpg")])
                        output = scratch / f"{contender.directory}-{source.name.replace(' ', '-')}-{number}"
                        run = _run(contender, source, model, saved_model, files, output, args.cache, reference)
                        runs.setdefault((contender.name, source.name, cores), []).append(run)
                        outcome = run.error or f"{run.steady_state or 0:.0f} images/s, {run.core_ms or 0:.2f} ms"
                        progress = f"{model.name}, round {number}, {source.name}, {contender.directory}: {outcome}"
                        print(progress, file=sys.stderr, flush=True)
    return runs


def _run(
    contender: Contender,
    source: Source,
    model: Model,
    saved_model: Path,
    files: Path,
    output: Path,
    cache: Path,
    reference: rounds.Vectors,
) -> rounds.Run:
    place: Path | str = source.uri or files
    if source.uri and contender.kind == OURS:
        place = f"{source.uri}/"
    variables = {**contender.environment_variables(output, cache), **source.variables}
    command = contender.command(place, saved_model, model, output, cache)
    is_whole = contender.name != _DAFT_ALONE
    run = rounds.run(command, variables, output, model.images, is_whole, reference, servers=source.server)
    if not run.error:
        shutil.rmtree(output)
    return run


def _forget(paths: Iterable[Path]) -> None:
    """Lets the system forget the contents of files; their names and inodes stay in memory, and so do other caches."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # what is not yet on the disk stays
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _circumstances() -> str:
    found = machine.description()
    core = bucket_servers.server_core()
    without_s3 = "" if object_servers.versitygw_program() else "; no versitygw, so nothing is read from S3"
    return (
        f"{found['cpu']}, {found['cores']} cores; load average at the start {found['load_average']:.1f}; servers on "
        f"core {core}; commit {machine.commit()}, "
        f"{datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')}{without_s3}"
    )


def _table(part: str, args: argparse.Namespace, runs: dict[Row, list[rounds.Run]]) -> list[str]:
    """Returns the table of the rows, and below it the ratios that this project promises."""
    rates = {row: measures.spread(run.steady_state for run in of_row) for row, of_row in runs.items()}
    cells: list[tuple[str, ...]] = [_HEAD]
    for row, of_row in runs.items():
        name, source, cores = row
        what = next(each.description for each in _contenders(part, source, cores) if each.name == name)
        rate = rates[row]
        shown = f"{rate.median:.0f} ({rate.least:.0f}–{rate.greatest:.0f})" if rate else "–"
        times = [_median(of_row, time) for time in ("core_ms", "server_ms")]
        to_files = _shown(measures.ratio(rate, rates.get((name, "files", cores))))
        cells.append((name, source, str(cores), shown, to_files, *times, _median(of_row, "whole_job", 0), what))
    count = args.images or MODELS[part].images
    cache = "cold" if args.cold else "warm"
    title = f"{part}: {count} images, {MODELS[part].name}, {args.runs} runs, page cache {cache}; steady states"
    failures = [f"failed: {', '.join(map(str, row))}: {run.error}" for row in runs for run in runs[row] if run.error]
    return [title, "", *aligned(cells), *failures, "", *_promises(runs)]


def _promises(runs: dict[Row, list[rounds.Run]]) -> Iterator[str]:
    """Yields lines of ratios. Where servers share the contender's cores, these count as if they had their own."""
    rates = {row: measures.spread(_apart(run, row[2]) for run in of_row) for row, of_row in runs.items()}
    for source in sorted({source for _, source, _ in rates} - {"files"}):
        one, files = rates.get(("ours-threads", source, 1)), rates.get(("ours-threads", "files", 1))
        times = [_core_ms(runs, "ours-threads", place) for place in ("files", source)]
        by_clock, by_core = _shown(measures.ratio(one, files)), _shown(measures.ratio(*times))
        yield f"{source}, one core: {by_clock} of local files, {by_core} by processor time"
        if daft := rates.get((_DAFT_ALONE, "s3 http", 1)):
            yield f"{source}, one core: {_shown(measures.ratio(one, daft))} times Daft's download, decode and resize"
        ratio = measures.ratio(rates.get(("ours-processes", source, 2)), rates.get(("ours-processes", source, 1)))
        yield f"{source}, decoder processes on two cores: {_shown(ratio)} times one core"


def _core_ms(runs: dict[Row, list[rounds.Run]], name: str, source: str) -> measures.Spread | None:
    return measures.spread(run.core_ms for run in runs.get((name, source, 1), ()))


def _apart(run: rounds.Run, cores: int) -> float | None:
    """Returns the steady state that all of the cores would have reached without the work of the servers."""
    if not run.steady_state or not run.core_ms or not run.server_ms or cores < usable_cores():
        return run.steady_state
    return run.steady_state * (run.core_ms + run.server_ms) / run.core_ms


def _median(runs: Sequence[rounds.Run], attribute: str, digits: int = 2) -> str:
    found = measures.spread(getattr(run, attribute) for run in runs)
    return f"{found.median:.{digits}f}" if found else "–"


def _shown(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.buckets", description=__doc__)
    parts = [*MODELS, GETS]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="default: all of them")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="rounds (default: %(default)s)")
    parser.add_argument("--images", type=int, metavar="N", help="images (default: 6000 small ones, 600 photographs)")
    cores = [number for number in (1, 2) if number <= usable_cores()]
    parser.add_argument("--cores", nargs="+", type=int, default=cores, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help="default: all of them")
    parser.add_argument("--cold", action="store_true", help="drop the images from the page cache before each run")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the runs to PATH-PART.json")
    parser.add_argument(
        "--cache", type=Path, default=models.CACHE_DEFAULT, metavar="DIR", help="(default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
