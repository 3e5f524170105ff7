"""The sections that show images: the contact sheet with neighbours, near-duplicates, and the map.

Each thumbnail is in the page once, as the background of a class, because an image occurs in several places.
"""

import base64
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.report.neighbours import NEAR_DUPLICATE
from pipeline.report.page import escape
from pipeline.report.page.sampled_images import Sample

_FIRST_CARDS, _CARDS = 12, 48
_GROUPS, _MEMBERS = 16, 8


def style(sample: Sample, max_bytes: int) -> str:
    """Returns the rules of the style sheet that hold the thumbnails, the first ones that have `max_bytes` in all."""
    rules, left = [], max_bytes
    for row, thumbnail in enumerate(sample.thumbnails):
        content = base64.b64encode(thumbnail).decode()
        rule = f".t{row}{{background-image:url(data:image/jpeg;base64,{content})}}\n"
        if thumbnail and len(rule) <= left:
            rules.append(rule)
            left -= len(rule)
    return "".join(rules)


def contact_sheet(sample: Sample, vectors: int) -> str:
    """Returns the section with images of the sample and their nearest neighbours.

    Args:
      sample: of the run, not empty.
      vectors: number of vectors of the run.
    """
    cards = [_card(sample, row) for row in range(min(_CARDS, len(sample)))]
    first, rest = "".join(cards[:_FIRST_CARDS]), "".join(cards[_FIRST_CARDS:])
    more = f'<details><summary>{len(cards) - _FIRST_CARDS} more</summary><ol class="sheet">{rest}</ol></details>'
    among = f"all {vectors:,}" if vectors == len(sample) else f"a sample of {len(sample):,} of {vectors:,}"
    note = (
        f"The five nearest images of each among {among} images of this run, and their cosines. Pictures are as the "
        "model sees them."
    )
    if len(sample) == 1:
        note = "A single image has no neighbours. The picture is as the model sees it."
    return (
        f'<section id="images"><h2>Images and their neighbours</h2><p class="note">{note}</p>'
        f'<ol class="sheet">{first}</ol>{more if rest else ""}</section>'
    )


def near_duplicates(sample: Sample, groups: Sequence[Sequence[int]]) -> str:
    """Returns the section of near-duplicates, whose `groups` are rows of the sample; "" for a single image."""
    if len(sample) == 1:
        return ""
    if not groups:
        return (
            '<section id="duplicates"><h2>Near-duplicates</h2><p class="note">No two of these '
            f"{len(sample):,} images have a cosine of {NEAR_DUPLICATE} or more.</p></section>"
        )
    images = sum(map(len, groups))
    items = "".join(_group(sample, group) for group in groups[:_GROUPS])
    left = len(groups) - _GROUPS
    more = f'<p class="note">and {left:,} more groups</p>' if left > 0 else ""
    return (
        f'<section id="duplicates"><h2>Near-duplicates</h2><p class="note">{images:,} of these {len(sample):,} '
        f"images are in {_number(len(groups), 'group')}. All cosines within a group are {NEAR_DUPLICATE} or more.</p>"
        f'<ol class="groups">{items}</ol>{more}</section>'
    )


def image_map(sample: Sample, points: npt.NDArray[np.float32], share: float) -> str:
    """Returns the section with the map; "" for a single image.

    Args:
      sample: of the run, not empty.
      points: (n, 2) in [-1, 1].
      share: of the variance that the map shows.
    """
    if len(sample) == 1:
        return ""
    dots = "".join(
        f'<circle role="option" tabindex="{0 if row == 0 else -1}" class="dot" cx="{50 + 46 * x:.2f}%" '
        f'cy="{50 - 46 * y:.2f}%" r="5" data-row="{row}" data-key="{escape.key(sample.keys[row])}" '
        f'data-near="{" ".join(f"{other}:{sample.cosines[row, other]:.2f}" for other in sample.nearest[row])}" '
        f'aria-label="{escape.name(sample.keys[row])}"/>'
        for row, (x, y) in enumerate(points.tolist())
    )
    return (
        f'<section id="map"><h2>Map</h2><p class="note">Similar images lie close together. The plane of the two '
        f'largest principal components shows {share:.0%} of the variance. <span class="on-screen">Point at a dot, or '
        "use the arrow keys. Page Down and Page Up go through all of them.</span></p>"
        f'<div class="map"><svg id="plane" role="listbox" aria-label="Map of {len(sample):,} images">'
        f'{dots}<g id="marks"></g></svg><div class="panel" id="panel" aria-live="polite">'
        '<span class="t big" id="panel-picture" aria-hidden="true"></span><p><b id="panel-name"></b></p>'
        '<p class="note" id="panel-key">Choose a dot to see its image.</p><ol class="near" id="panel-near"></ol></div>'
        "</div></section>"
    )


def _card(sample: Sample, row: int) -> str:
    near = "".join(_small(sample, other, f"{sample.cosines[row, other]:.2f}") for other in sample.nearest[row])
    return (
        f'<li>{_picture(row)}<div><b title="{escape.key(sample.keys[row])}">{escape.name(sample.keys[row], 40)}</b>'
        f'<ol class="near">{near}</ol></div></li>'
    )


def _group(sample: Sample, group: Sequence[int]) -> str:
    pairs = sample.cosines[np.ix_(group, group)][np.triu_indices(len(group), 1)]
    members = "".join(
        f'<li>{_picture(row)}<span title="{escape.key(key)}">{escape.name(key, 40)}</span></li>'
        for row, key in ((row, sample.keys[row]) for row in group[:_MEMBERS])
    )
    left = len(group) - _MEMBERS
    more = f", {left:,} of them not shown" if left > 0 else ""
    low, high = f"{pairs.min():.3f}", f"{pairs.max():.3f}"
    cosines = f"cosine {low}" if low == high else f"cosines {low} to {high}"
    heading = f"{_number(len(group), 'image')}{more} <small>{cosines}</small>"
    return f'<li><h3>{heading}</h3><ul class="strip">{members}</ul></li>'


def _small(sample: Sample, row: int, cosine: str) -> str:
    name = escape.name(sample.keys[row])
    return f'<li title="{name}"><span class="t t{row}" role="img" aria-label="{name}"></span>{cosine}</li>'


def _picture(row: int) -> str:
    return f'<span class="t t{row}" aria-hidden="true"></span>'


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
