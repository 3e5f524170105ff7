"""Results → the text that a person reads; the same of a file that `--json` wrote: `python -m benchmarks.table FILE`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measures, memory
from benchmarks.contenders import PEER, ROOF
from benchmarks.measures import Spread

_HEAD = ("", "whole job", "× peer", "× roof", "steady state", "× peer", "× roof", "first batch, s", "cosine", "what")


def text(results: dict) -> str:
    """Returns the tables of everything that was measured."""
    machine, found = results["machine"], results["versions"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{'with' if machine['bfloat16'] else 'without'} bfloat16; load average at the start "
        f"{machine['load_average']:.1f}",
        ", ".join(f"{name} {version}" for name, version in found.items()),
        f"commit {results['commit']}, {results['at']}",
    ]
    for model in results["models"]:
        lines += ["", *_of_model(model)]
    if found := results.get("start_up"):
        cells = [(name, _spread(measures.spread(seconds)), "") for name, seconds in found.items()]
        lines += ["", "start-up, seconds, median (least–greatest); to the first vector: `first batch` above", ""]
        lines += aligned(cells)
    if found := results.get("memory"):
        lines += ["", "peak memory, efficientnet_lite0, photographs of 640×480", "", *aligned(_memory(found))]
    if found and (ratio := memory.ratio(found)):
        lines += [f"at {memory.COUNTS[1]} images {ratio:.2f} times that at {memory.COUNTS[0]}"]
    return "\n".join(lines)


def _of_model(model: dict) -> list[str]:
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
        f"{model['batch_size']}, {model['runs']} runs; images a second, median (least–greatest)"
    )
    return [title, "", *aligned(cells), *failures]


def _memory(taken: Sequence[dict]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("images", "batch size", "MiB", "images/s", "")]
    for one in taken:
        batch_size = str(one.get("batch_size", "default"))
        rows.append((str(one["images"]), batch_size, f"{one['peak_mib']:.0f}", f"{one['images_per_second']:.1f}", ""))
    return rows


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a table: the first and the last column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = []
    for row in cells:
        inner = (cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True))
        lines.append("  ".join((row[0].ljust(widths[0]), *inner, row[-1])).rstrip())
    return lines


def _spread(found: Spread | None) -> str:
    return f"{found.median:.1f} ({found.least:.1f}–{found.greatest:.1f})" if found else "–"


def _ratio(one: Spread | None, other: Spread | None) -> str:
    found = measures.ratio(one, other)
    return "–" if found is None else f"{found:.2f}"


def _cosine(runs: Sequence[dict]) -> str:
    found = [run["cosine"] for run in runs if run["cosine"]]
    return f"{min(median for median, _ in found):.4f} (≥{min(least for _, least in found):.4f})" if found else "–"


if __name__ == "__main__":
    print(text(json.loads(Path(sys.argv[1]).read_text())))
