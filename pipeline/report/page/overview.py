"""The top of the page: one sentence, the counts as a bar that adds up, and warnings."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.page import escape
from pipeline.report.page.charts import Part, legend, stacked_bar
from pipeline.report.page.concerns import Concern

_WHOLE = ' class="value"'  # on one line
_OUTCOMES = ("embedded", "reused", "duplicate", "skipped", "failed")


def headline(counts: Mapping[str, int]) -> str:
    """Returns what became of the images, in one sentence of plain text."""
    listed, failed, skipped = counts["listed"], counts["failed"], counts["skipped"]
    vectors = counts["embedded"] + counts["reused"] + counts["duplicate"]
    if not listed:
        return "No image was listed."
    if listed == 1:
        return (
            "The image has its vector." if vectors else "The image failed." if failed else "The image had its vector."
        )
    if vectors == listed:
        return f"All {listed:,} images have their vectors."
    parts = [f"{vectors:,} of {listed:,} images got a vector"]
    if skipped:
        parts.append(f"{skipped:,} had one already")
    parts.append(f"{failed:,} failed" if failed else "none failed")
    return f"{', '.join(parts[:-1])}, and {parts[-1]}."


def header(report: Mapping[str, Any]) -> str:
    """Returns the title of the page, with the bar of the counts."""
    counts, model = report["counts"], report["model"]
    listed, parts = f"{counts['listed']:,}", [Part(name, name, counts[name]) for name in _OUTCOMES]
    equation = " + ".join(f"{part.value:,} {part.label}" for part in parts if part.value) or "0"
    started = str(report["started_at"])[:16].replace("T", " ")
    rows = [
        ("Speed", f"{report['images_per_second']:,.1f} images/s"),
        ("Time", duration(report["elapsed_seconds"])),
        ("Model", str(model["name"]).rstrip("/").rpartition("/")[2]),
        ("Dimensions", f"{model['dimension']:,}"),
    ]
    figures = "".join(
        f"<div><dt>{name}</dt><dd{'' if name == 'Model' else _WHOLE}>{escape.text(value, 40)}</dd></div>"
        for name, value in rows
    )
    return (
        f'<header><p class="eyebrow">Run <b>{escape.text(report["run_id"])}</b> · {escape.text(started)} UTC</p>'
        f"<h1>{escape.text(headline(counts))}</h1>"
        f'<p class="lead">{escape.text(_sentence(report["verdict"]), 1000)}</p>'
        f"{stacked_bar(parts, f'{listed} listed = {equation}')}"
        f'<div class="sum"><p><b>{listed}</b> listed =</p>{legend(parts)}</div>'
        f'<dl class="figures">{figures}</dl></header>'
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def duration(seconds: float) -> str:
    """Returns seconds for people: `8.2 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def warnings(concerns: Sequence[Concern], checks: Sequence[str]) -> str:
    """Returns the section of warnings, or of what was checked if there is none."""
    if concerns:
        items = "".join(
            f"<li><h3>{escape.text(concern.title)}</h3><p>{escape.text(concern.text, 1500)}</p></li>"
            for concern in concerns
        )
        return f'<section id="warnings" class="warnings"><h2>Look at this</h2><ul>{items}</ul></section>'
    items = "".join(f"<li>{escape.text(line)}</li>" for line in checks)
    return f'<section id="warnings" class="calm"><h2>No warnings</h2><ul>{items}</ul></section>'
