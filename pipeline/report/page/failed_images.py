"""The section of images that failed: by stage and error, with examples, and the command that tries them again."""

import base64
from collections.abc import Sequence

from pipeline.report.page import escape
from pipeline.report.page.facts import FailedImage, RunFacts

MAX_EXAMPLES = 6  # of a stage and error
MAX_GROUPS = 24
_MAX_THUMBNAIL_BYTES = 5 << 10


def failed_images(facts: RunFacts) -> str:
    """Returns the section, or "" if nothing failed."""
    groups = [
        (stage, error, images) for stage, errors in facts.report["failures"].items() for error, images in errors.items()
    ]
    if not groups:
        return ""
    groups.sort(key=lambda group: -group[2])
    blocks = [
        _group(stage, error, images, [each for each in facts.failures if (each.stage, each.error) == (stage, error)])
        for stage, error, images in groups[:MAX_GROUPS]
    ]
    left = len(groups) - MAX_GROUPS
    more = f'<p class="note">{left:,} more kinds of failure are in the records.</p>' if left > 0 else ""
    records = f"<p>Each one, with its message: <code>{escape.text(facts.failure_files)}</code></p>"
    again = (
        f"<p>Try again those that another try may help:</p>{command(facts.retry, 'retry')}"
        if facts.retry
        else "<p>Another try would fail in the same way. Mend or remove these images, and run the command again.</p>"
    )
    return (
        f'<section id="failures"><h2>Failures</h2>{"".join(blocks)}{more}{again}'
        f"{records if facts.failure_files else ''}</section>"
    )


def command(line: str, name: str) -> str:
    """Returns a command line that a button copies; `name` is its own in the page."""
    return (
        f'<div class="command"><pre tabindex="0" id="{name}">{escape.text(line, 8000)}</pre>'
        f'<button type="button" data-copy="{name}">Copy</button></div>'
    )


def _group(stage: str, error: str, images: int, examples: Sequence[FailedImage]) -> str:
    shown = "".join(map(_example, examples[:MAX_EXAMPLES]))
    left = images - min(len(examples), MAX_EXAMPLES)
    more = f'<p class="note">and {left:,} more</p>' if left > 0 and shown else ""
    return (
        f'<article class="failure"><h3><span class="count">{images:,} ×</span> {escape.text(error, 80)} '
        f"<small>in {escape.text(stage, 40)}</small></h3><ul>{shown}</ul>{more}</article>"
    )


def _example(image: FailedImage) -> str:
    picture = '<span class="t none" aria-hidden="true"></span>'
    if image.thumbnail and len(image.thumbnail) <= _MAX_THUMBNAIL_BYTES:
        picture = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(image.thumbnail).decode()}">'
    return (
        f'<li>{picture}<div><b title="{escape.key(image.key)}">{escape.name(image.key)}</b>'
        f"<p>{escape.text(image.message)}</p></div></li>"
    )
