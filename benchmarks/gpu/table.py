"""Results of `python -m benchmarks.gpu` → tables in Markdown."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from benchmarks.gpu.contenders import PEER_NAME
from benchmarks.gpu.model_alone import ONNX, OURS

PARTS = ("cpu", "decode", "models_alone", "whole_jobs", "out_of_memory")
_JOBS = (
    "",
    "precision",
    "steady state, images/s",
    f"× {PEER_NAME}",
    "× model alone",
    "whole job, images/s",
    "first batch, s",
    "cosine to the CPU: least",
    "mean",
    "GPU busy, %",
    "samples under 50 %, %",
    "GPU busy by tenth of the run, %",
    "GPU memory, MiB",
)
_NONE = "–"
_ALONE = {
    OURS: "`run_pipeline.py`, bytes from the machine's memory",
    ONNX: "the same with the network as ONNX, in ONNX Runtime",
    "saved_model": "SavedModel, float32 on the GPU",
}


def text(results: dict[str, Any]) -> str:
    """Returns the tables of all results."""
    return "\n".join([*_head(results), "", *_body(results), *_end(results)])


def parts(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the measurements of all parts that ran."""
    for name in PARTS:
        yield from results[name]


def outcome(part: dict[str, Any]) -> str:
    """Returns the result of a part in a few words."""
    if "halved_to" in part:
        return f"batches of {part['batch_size']} were halved to {part['halved_to']}"
    rate = part.get("images_per_second") or part.get("steady_state")
    return f"{rate:,.1f} images/s" if rate else "done"


def _head(results: dict[str, Any]) -> list[str]:
    devices, machine = results["devices"], results["machine"]
    width, height = results["photograph_size"]
    in_float32 = "TensorFloat-32 in float32, where the GPU has it" if devices["tensor_float_32"] else "plain float32"
    return [
        f"- {'; '.join(devices['driver'] or devices['names'])}; TensorFlow {devices['tensorflow']}, {in_float32}",
        f"- {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB; load average at the start "
        f"{machine['load_average']:.1f}",
        f"- commit {results['commit']}, {results['at']}, {results['seconds']:.0f} s",
        f"- {results['model']}, batches of {results['batch_size']}, {results['images']} photographs of "
        f"{width}×{height}, one run each",
    ]


def _body(results: dict[str, Any]) -> Iterator[str]:
    alone = {(each["engine"], each["precision"]): each["images_per_second"] for each in results["models_alone"]}
    jobs = {(job["name"], job["precision"]): job for job in results["whole_jobs"]}
    if jobs:
        yield from _markdown([_JOBS, *(_job(job, jobs, alone) for job in jobs.values())])
        yield ""
    rows = [(_ALONE[engine], precision, _rate(rate)) for (engine, precision), rate in alone.items()]
    yield from _markdown([("the model alone", "precision", "images/s"), *rows])
    yield ""
    for part in results["decode"]:
        yield f"- The cores read and decode {_rate(part['steady_state'])} photographs a second, in a process each."
    yield from (_out_of_memory(part) for part in results["out_of_memory"] if not part["error"])


def _job(job: dict[str, Any], jobs: dict[tuple, dict[str, Any]], alone: dict[tuple, float | None]) -> tuple[str, ...]:
    precision, own = job["precision"], job["steady_state"]
    peer = jobs.get((PEER_NAME, precision), {}).get("steady_state")
    use = job["use"] or {}
    tenths = use.get("tenths")
    return (
        job["name"],
        precision,
        _rate(own),
        _ratio(own, peer),
        _ratio(own, alone.get((ONNX if job["is_onnx"] else OURS, precision))),
        _rate(job["whole_job"]),
        _number(job["first_batch"], 1),
        _number(job.get("least_cosine"), 5),
        _number(job.get("mean_cosine"), 5),
        _number(use.get("mean"), 0),
        _number(use.get("low"), 0),
        " ".join(_number(tenth, 0) for tenth in tenths) if tenths else _NONE,
        _number(use.get("memory_mib"), 0),
    )


def _out_of_memory(part: dict[str, Any]) -> str:
    return (
        f"- With {part['memory_limit_mib']} MiB of GPU memory, batches of {part['batch_size']} images were halved to "
        f"{part['halved_to']}. All {part['images']} images were embedded, with a least cosine of "
        f"{_number(part['least_cosine'], 5)} to the CPU."
    )


def _end(results: dict[str, Any]) -> Iterator[str]:
    if results["devices"]["kind"] == "CPU":
        yield "- A CPU took the place of GPUs, and out-of-memory was simulated: these numbers say nothing of a GPU."
    if any(job["use"] is None for job in results["whole_jobs"] if not job["error"]):
        yield "- How busy the GPU was is missing: `nvidia-smi` is not installed, or the GPU does not count it (MIG)."
    if not results["devices"]["runs_onnx"]:
        yield "- ONNX is missing: it needs the packages onnxruntime-gpu and onnx."
    if results["skipped"]:
        yield f"- Skipped, because the time was over: {', '.join(results['skipped'])}."
    for part in parts(results):
        if part["error"]:
            precision = f", {part['precision']}" if "precision" in part else ""
            yield f"- Failed: {part['name']}{precision}: {part['error']}"


def _markdown(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    yield line(rows[0])
    yield f"|{'---|' * len(rows[0])}"
    yield from map(line, rows[1:])


def _rate(rate: float | None) -> str:
    return f"{rate:,.1f}" if rate else _NONE


def _ratio(one: float | None, other: float | None) -> str:
    return f"{one / other:.2f}" if one and other else _NONE


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"
