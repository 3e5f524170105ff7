"""Results → tables. `python -m benchmarks.table FILE` prints those of a file that `--json` wrote."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measures, memory
from benchmarks.contenders import PEER, ROOF
from benchmarks.measures import Spread

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
    failures = []
    for name, row in rows.items():
        if errors := [run["error"] for run in row["runs"] if run["error"]]:
            failures.append(f"failed: {name}, {len(errors)} of {len(row['runs'])} runs: {errors[0]}")
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
        f"{model['batch_size']}, {model['runs']} runs; images per second, median (least–greatest)"
    )
    return [title, "", *aligned(cells), *failures]


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
