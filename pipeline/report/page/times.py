"""The sections of speed, of the split of the time, and of the model and the settings."""

from collections.abc import Mapping
from typing import Any

from pipeline.report.page import escape
from pipeline.report.page.charts import Part, columns, legend, span_bar, stacked_bar
from pipeline.report.page.facts import value_text
from pipeline.report.page.failed_images import command
from pipeline.report.page.overview import duration

_PHASES = {
    "start_up": "starting",
    "list": "listing",
    "compare": "comparing images",
    "digest": "finding equal files",
    "work": "reading, decoding, embedding",
    "finish": "finishing",
}

# Threads wait in them for a whole block of images. A share of one image says nothing.
_OF_BLOCKS = ("load", "wait", "bundle")


def times(report: Mapping[str, Any]) -> str:
    """Returns the section of speed and time."""
    phases = report.get("phases") or {}
    parts = [
        Part(f"phase{number}", label, phases.get(name, 0.0)) for number, (name, label) in enumerate(_PHASES.items())
    ]
    durations = {part.label: duration(part.value) for part in parts}
    split = ""
    if any(part.value > 0 for part in parts):
        label = ", ".join(f"{part.label} {durations[part.label]}" for part in parts if part.value > 0)
        split = f"<h3>What the run did</h3>{stacked_bar(parts, label)}{legend(parts, durations)}"
    return f'<section id="time"><h2>Speed and time</h2>{_speed(report)}{split}{_stages(report)}</section>'


def settings(report: Mapping[str, Any], command_line: str) -> str:
    """Returns the section of the model and the settings."""
    model = report["model"]
    rows = [(name.replace("_", " "), value) for name, value in model.items() if value]
    rows += [("inputs", value) for value in report["inputs"][:20]]
    if left := len(report["inputs"]) - 20:
        rows += [("inputs", f"and {left:,} more")] if left > 0 else []
    if report.get("device"):
        rows.append(("device", report["device"]))
    items = "".join(
        f"<div><dt>{escape.text(name, 60)}</dt><dd>{escape.text(value_text(value))}</dd></div>" for name, value in rows
    )
    again = f"<h3>The same again</h3>{command(command_line, 'command')}" if command_line else ""
    return f'<section id="settings"><h2>Model and settings</h2><dl class="rows">{items}</dl>{again}</section>'


def _speed(report: Mapping[str, Any]) -> str:
    speed = report.get("speed") or {}
    counts, seconds = speed.get("images") or [], speed.get("span_s") or 0.0
    if len(counts) < 2 or seconds <= 0:
        return ""
    rates = [count / seconds for count in counts]
    fastest = f"{max(rates):,.0f} images/s at best"
    ends = duration(speed.get("from_s", 0.0)), duration(speed.get("from_s", 0.0) + seconds * len(counts))
    return (
        f"<h3>Images per second</h3><figure>{columns(rates, f'Speed over time: {fastest}')}<figcaption>"
        f"<span>{ends[0]}</span><span>{fastest}</span><span>{ends[1]}</span></figcaption></figure>"
    )


def _stages(report: Mapping[str, Any]) -> str:
    timings, seconds = report.get("timings") or {}, report.get("seconds") or {}
    if not timings:
        return ""
    elapsed = report["elapsed_seconds"]
    rows = "".join(
        f'<tr><th scope="row">{escape.text(stage.replace("_", " "), 40)}</th>'
        f"<td>{duration(seconds.get(stage, 0.0))}</td>{_of_one(stage, timing)}"
        f"<td>{span_bar(timing['from_s'], timing['to_s'], elapsed)}</td></tr>"
        for stage, timing in sorted(timings.items(), key=lambda item: item[1]["from_s"])
    )
    return (
        '<h3>What the threads did</h3><table><thead><tr><th scope="col">stage</th><th scope="col">busy</th>'
        '<th scope="col">mean</th><th scope="col">longest</th>'
        f'<th scope="col">when, of {duration(elapsed).replace(" s", "&nbsp;s")}</th></tr></thead><tbody>{rows}</tbody>'
        "</table>"
        '<p class="note">Busy is the sum over all threads, which work at the same time. Mean and longest are of one '
        "image, file or list. Images that share a call have equal parts of its time.</p>"
    )


def _of_one(stage: str, timing: Mapping[str, Any]) -> str:
    if stage in _OF_BLOCKS:
        return "<td>–</td><td>–</td>"
    return f"<td>{timing['mean_ms']:,.1f} ms</td><td>{timing['longest_ms']:,.0f} ms</td>"
