"""The section of images that failed: by stage and error, with examples, and the command that tries them again."""

import base64
import dataclasses
import html
from collections.abc import Iterator, Sequence

from pipeline.report.page import escape
from pipeline.report.page.facts import FailedImage, RunFacts

MAX_EXAMPLES = 6  # of a stage and error
MAX_GROUPS = 24
MAX_PICTURES = 24
_MAX_THUMBNAIL_BYTES = 5 << 10
_MAX_LINE = 100_000


def failed_images(facts: RunFacts) -> str:
    """Returns the section, or "" if nothing failed."""
    groups = [
        (stage, error, images) for stage, errors in facts.report["failures"].items() for error, images in errors.items()
    ]
    if not groups:
        return ""
    groups.sort(key=lambda group: -group[2])
    examples = list(_with_few_pictures(facts.failures))
    blocks = [
        _group(stage, error, images, [each for each in examples if (each.stage, each.error) == (stage, error)])
        for stage, error, images in groups[:MAX_GROUPS]
    ]
    left = len(groups) - MAX_GROUPS
    more = f'<p class="note">{left:,} more kinds of failure are in the records.</p>' if left > 0 else ""
    records = f"<p>Each one, with its message: <code>{escape.text(facts.failure_files)}</code></p>"
    again = (
        f"<p>Try again those that another try may help:</p>{command(facts.retry, 'retry')}"
        if facts.retry
        else "<p>Another try would fail in the same way. Mend or remove these images, and run "
        '<a href="#settings">the command</a> again.</p>'
    )
    return (
        f'<section id="failures"><h2>Failures</h2>{"".join(blocks)}{more}{again}'
        f"{records if facts.failure_files else ''}</section>"
    )


def _with_few_pictures(failures: Sequence[FailedImage]) -> Iterator[FailedImage]:
    """Yields the failures, and only the first ones with their pictures."""
    left = MAX_PICTURES
    for image in failures:
        has_picture = 0 < len(image.thumbnail) <= _MAX_THUMBNAIL_BYTES and left > 0
        left -= has_picture
        yield image if has_picture else dataclasses.replace(image, thumbnail=b"")


def command(line: str, name: str) -> str:
    """Returns a command line that a button copies, exactly; in place of one of more than 100,000 characters, a note.

    Args:
      line: as shell_words.join returns it, so that nothing in it has to be escaped for people.
      name: its own in the page.
    """
    if len(line) > _MAX_LINE:
        return f'<p class="note" id="{name}">The command line is too long for this page: {len(line):,} characters.</p>'
    return (
        f'<div class="command"><pre tabindex="0" id="{name}">{html.escape(line)}</pre>'
        f'<button type="button" data-copy="{name}">Copy</button></div>'
    )


def _group(stage: str, error: str, images: int, examples: Sequence[FailedImage]) -> str:
    items = "".join(map(_example, examples[:MAX_EXAMPLES]))
    left = images - min(len(examples), MAX_EXAMPLES)
    more = f'<p class="note">and {left:,} more</p>' if left > 0 and items else ""
    return (
        f'<article class="failure"><h3><span class="count">{images:,} ×</span> {escape.text(error, 80)} '
        f"<small>in {escape.text(stage, 40)}</small></h3><ul>{items}</ul>{more}</article>"
    )


def _example(image: FailedImage) -> str:
    picture = '<span class="t none" aria-hidden="true"></span>'
    if image.thumbnail:
        picture = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(image.thumbnail).decode()}">'
    return (
        f'<li>{picture}<div><b title="{escape.key(image.key)}">{escape.name(image.key)}</b>'
        f"<p>{escape.text(image.message)}</p></div></li>"
    )
