"""Charts as SVG. Sizes are attributes and percentages, because the policy of the page allows no style attributes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.report.page import escape


class Part(NamedTuple):
    """A part of a bar: `kind` is a class of the style sheet, `label` plain text."""

    kind: str
    label: str
    value: float


def stacked_bar(parts: Sequence[Part], label: str) -> str:
    """Returns a bar whose parts fill its width, in proportion to their values.

    Args:
      parts: from left to right; those of value 0 are left out.
      label: the content of the bar as text, for screen readers.
    """
    total = sum(part.value for part in parts)
    rectangles, start = [], 0.0
    for part in parts:
        if part.value > 0:
            width = 100 * part.value / total
            rectangles.append(
                f'<rect class="{part.kind}" x="{start:.3f}%" width="{width:.3f}%" height="100%">'
                f"<title>{escape.text(part.label)}</title></rect>"
            )
            start += width
    return f'<svg class="bar" role="img" aria-label="{escape.text(label, 600)}">{"".join(rectangles)}</svg>'


def span_bar(start: float, end: float, total: float) -> str:
    """Returns a thin bar from `start` to `end` on a line of length `total`, all in seconds."""
    total = max(total, end, 1e-9)
    left = 100 * max(0.0, min(start / total, 1.0))
    width = max(0.8, 100 * (end / total) - left)
    label = f"from {start:.1f} s to {end:.1f} s"
    return (
        f'<svg class="span" role="img" aria-label="{label}"><rect class="track" width="100%" height="100%"/>'
        f'<rect class="work" x="{min(left, 99.2):.2f}%" width="{width:.2f}%" height="100%"/></svg>'
    )


def columns(values: Sequence[float], label: str) -> str:
    """Returns a chart of columns, the highest as high as the chart."""
    top = max([*values, 1e-9])
    width = 100 / max(len(values), 1)
    bars = "".join(
        f'<rect class="work" x="{number * width:.3f}%" y="{100 - 100 * value / top:.2f}%" '
        f'width="{width * (0.9 if len(values) < 80 else 1):.3f}%" height="{100 * value / top:.2f}%"/>'
        for number, value in enumerate(values)
    )
    return f'<svg class="columns" role="img" aria-label="{escape.text(label, 600)}">{bars}</svg>'


def legend(parts: Sequence[Part], texts: Mapping[str, str] | None = None) -> str:
    """Returns the parts as a list of names and values; `texts` has the text of a value by label."""
    items = "".join(
        f'<li><svg class="key" aria-hidden="true"><rect class="{part.kind}" width="100%" height="100%"/></svg>'
        f"<b>{escape.text((texts or {}).get(part.label, f'{part.value:,.0f}'))}</b> {escape.text(part.label)}</li>"
        for part in parts
        if part.value > 0
    )
    return f'<ul class="legend">{items}</ul>'
