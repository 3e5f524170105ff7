"""Results → tables. `python -m benchmarks.table FILE` prints those of a file that `--json` wrote."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measures, memory
from benchmarks.contenders import PEER, ROOF
from benchmarks.measures import Spread
from benchmarks.small_images import PEER_NAME

_RATE = "images per second, median (least–greatest)"
_HEAD = ("", "whole job", "× peer", "× roof", "steady state", "× peer", "× roof", "first batch, s", "cosine", "what")


def text(results: dict) -> str:
    """Returns the tables of all results."""
    machine = results["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{'with' if machine['bfloat16'] else 'without'} bfloat16; load average at the start "
        f"{machine['load_average']:.1f}",
        ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        f"commit {results['commit']}, {results['at']}",
    ]
    for model in results["models"]:
        lines += ["", *_model_table(model)]
    if onnx := results.get("onnx"):
        lines += ["", *_model_table(onnx)]
    if small := results.get("small_images"):
        lines += ["", *small_images_table(small)]
    if devices := results.get("simulated_device"):
        lines += ["", *devices_table(devices)]
    if start_up := results.get("start_up"):
        cells = [(name, _spread(measures.spread(seconds)), "") for name, seconds in start_up.items()]
        lines += ["", "start-up, seconds, median (least–greatest)", ""]
        lines += aligned(cells)
    if memory_runs := results.get("memory"):
        lines += ["", "peak memory, efficientnet_lite0, photographs of 640×480", "", *aligned(_memory(memory_runs))]
        if ratio := memory.ratio(memory_runs):
            lines += [f"at {memory.COUNTS[1]} images, {ratio:.2f} times the peak at {memory.COUNTS[0]}"]
    return "\n".join(lines)


def _model_table(model: dict) -> list[str]:
    rows = {row["name"]: row for row in model["contenders"]}
    spreads = {
        name: {rate: measures.spread(run[rate] for run in row["runs"]) for rate in ("whole_job", "steady_state")}
        for name, row in rows.items()
    }
    cells = [_HEAD]
    for name, row in rows.items():
        line = [name]
        for rate in ("whole_job", "steady_state"):
            peer = measures.fastest(spreads[other][rate] for other in rows if rows[other]["kind"] == PEER)
            roof = spreads.get(row["roof"], {}).get(rate)
            own = spreads[name][rate]
            line += [_spread(own), *(_ratio(own, other if row["kind"] != ROOF else None) for other in (peer, roof))]
        line += [_spread(measures.spread(run["first_batch"] for run in row["runs"])), _cosine(row["runs"]), row["what"]]
        cells.append(tuple(line))
    title = (
        f"{model['name']}, {model['images']} photographs ({model['bytes'] / 1e6:.0f} MB), batches of "
        f"{model['batch_size']}, {model['runs']} runs; {_RATE}"
    )
    return [title, "", *aligned(cells), *_failures(model)]


def small_images_table(measured: dict) -> list[str]:
    """Returns the table of contenders on several numbers of cores."""
    rows = measured["contenders"]
    rates = {(row["name"], row["cores"]): _steady_state(row) for row in rows}
    fewest = min(row["cores"] for row in rows)
    cells: list[tuple[str, ...]] = [("", "cores", "steady state", f"× {PEER_NAME}", f"× {fewest} core", "what")]
    for row in rows:
        name, cores = row["name"], row["cores"]
        own = rates[name, cores]
        ratios = (_ratio(own, rates.get((PEER_NAME, cores))), _ratio(own, rates.get((name, fewest))))
        cells.append((name, str(cores), _spread(own), *ratios, row["what"]))
    title = f"small images: {measured['images']} of 64×64, a model that averages, {measured['runs']} runs; {_RATE}"
    return [title, "", *aligned(cells), *_failures(measured)]


def devices_table(measured: dict) -> list[str]:
    """Returns the table of this project's command with simulated devices."""
    rows = measured["contenders"]
    decoded = {row["cores"]: _steady_state(row) for row in rows if row["device_rate"] is None}
    cells: list[tuple[str, ...]] = [
        ("", "device", "cores", "decoded", "reached", "× device", "× decoded", "× the lesser", "what")
    ]
    for row in rows:
        if rate := row["device_rate"]:
            device, roof, own = Spread(rate, rate, rate), decoded.get(row["cores"]), _steady_state(row)
            lesser = min((device, roof), key=lambda spread: spread.median) if roof else None
            ratios = (_ratio(own, other) for other in (device, roof, lesser))
            cells.append((row["name"], f"{rate}", f"{row['cores']}", _spread(roof), _spread(own), *ratios, row["what"]))
    title = f"simulated devices: {measured['images']} images of 64×64, {measured['runs']} runs; {_RATE}"
    return [title, "", *aligned(cells), *_failures(measured)]


def _steady_state(row: dict) -> Spread | None:
    return measures.spread(run["steady_state"] for run in row["runs"])


def _failures(measured: dict) -> list[str]:
    failures = []
    for row in measured["contenders"]:
        if errors := [run["error"] for run in row["runs"] if run["error"]]:
            failures.append(f"failed: {row['name']}, {len(errors)} of {len(row['runs'])} runs: {errors[0]}")
    return failures


def _memory(runs: Sequence[dict]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("images", "batch size", "MiB", "images/s", "")]
    for run in runs:
        batch_size = str(run.get("batch_size", "default"))
        rows.append((str(run["images"]), batch_size, f"{run['peak_mib']:.0f}", f"{run['images_per_second']:.1f}", ""))
    return rows


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a table; the first and last columns are left-aligned, the others right-aligned."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = []
    for row in cells:
        inner = (cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True))
        lines.append("  ".join((row[0].ljust(widths[0]), *inner, row[-1])).rstrip())
    return lines


def _spread(spread: Spread | None) -> str:
    return f"{spread.median:.1f} ({spread.least:.1f}–{spread.greatest:.1f})" if spread else "–"


def _ratio(one: Spread | None, other: Spread | None) -> str:
    ratio = measures.ratio(one, other)
    return "–" if ratio is None else f"{ratio:.2f}"


def _cosine(runs: Sequence[dict]) -> str:
    cosines = [run["cosine"] for run in runs if run["cosine"]]
    return f"{min(median for median, _ in cosines):.4f} (≥{min(least for _, least in cosines):.4f})" if cosines else "–"


if __name__ == "__main__":
    print(text(json.loads(Path(sys.argv[1]).read_text())))
