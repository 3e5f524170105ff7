"""The pages of a search as HTML: a self-contained one with a result, and one that searches.

All text is escaped. A Content-Security-Policy allows a page its own style and script, known by their SHA-256, and
pictures in it.
"""

import base64
import hashlib
import html
from collections.abc import Collection, Sequence
from importlib import resources

from pipeline.commands.search import names, thumbnails
from pipeline.commands.search.nearest import Neighbour
from transforms.elements import keys
from transforms.storage.context import DEFAULT_STORAGE, Storage

_CSS, _JS = ((resources.files("pipeline.commands.search") / name).read_text() for name in ("page.css", "page.js"))


def result(
    query: bytes,
    neighbours: Sequence[Neighbour[bytes]],
    of_files: Collection[bytes],
    storage: Storage = DEFAULT_STORAGE,
) -> str:
    """Returns the page of a result, with small pictures of the neighbours.

    Args:
      query: key of the image, which may be in the runs or not.
      neighbours: its nearest images.
      of_files: the keys of neighbours that were listed as files. Only these are opened, because the author of a shard
        chooses its keys.
      storage: how buckets are reached.
    """
    pictures = (thumbnails.jpeg(each.key, storage) if each.key in of_files else None for each in neighbours)
    cards = "\n".join(map(_card, neighbours, pictures))
    heading = f"Neighbours of {html.escape(keys.name(query))}"
    policy = f"default-src 'none'; img-src data:; style-src {_source(_CSS)}"
    body = f"<h1>{heading}</h1>\n<p>The nearest images by the cosine of their vectors.</p>\n<ol>\n{cards}\n</ol>"
    return _document(heading, body, f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n')


def searching(images: int) -> str:
    """Returns the page that searches among this many images. Its server sends `POLICY` with it."""
    body = f"""<h1 id="title" tabindex="-1">Images of the runs</h1>
<p id="message" role="status">{images:,} images</p>
<div class="drop" id="drop">
<img id="picture" alt="The image that is searched for" hidden>
<div><label for="file">Drop an image here, or choose one:</label> <input id="file" type="file" accept="image/*"></div>
</div>
<ol id="results"></ol>
<script>{_JS}</script>"""
    return _document("Search", body)


def _card(neighbour: Neighbour[bytes], thumbnail: bytes | None) -> str:
    picture = '<span class="none">no picture</span>'
    if thumbnail is not None:
        picture = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(thumbnail).decode()}">'
    return (
        f'<li><div class="card" title="{html.escape(keys.name(neighbour.key))}">{picture}'
        f'<span class="name">{html.escape(names.last_part(neighbour.key))}</span>'
        f'<span class="cosine">cosine {neighbour.cosine:.4f}</span></div></li>'
    )


def _document(title: str, body: str, head: str = "") -> str:
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{head}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{title}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{_CSS}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; img-src 'self' blob: data:; connect-src 'self'; style-src {_source(_CSS)}; "
    f"script-src {_source(_JS)}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
