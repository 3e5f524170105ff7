"""The page of a run: RunFacts → one HTML document, which needs nothing but itself.

A Content-Security-Policy in the page allows its own style and script, known by their SHA-256, and pictures within it.
"""

import base64
import hashlib
from importlib import resources

from pipeline.report.neighbours import near_duplicates
from pipeline.report.page import escape, overview, pictures, times
from pipeline.report.page.collapse import variety
from pipeline.report.page.concerns import checked, concerns
from pipeline.report.page.facts import RunFacts
from pipeline.report.page.failed_images import failed_images
from pipeline.report.page.principal_components import plane

MAX_BYTES = 5_000_000

_CSS, _JS = ((resources.files("pipeline.report.page") / name).read_text() for name in ("page.css", "page.js"))
# In a square, for a model that takes no squares.
_WHOLE_PICTURES = ".t { background-size: contain; }\n"
_SECTIONS = {
    "failures": "Failures",
    "images": "Images",
    "duplicates": "Near-duplicates",
    "map": "Map",
    "time": "Time",
    "settings": "Settings",
}


def html(facts: RunFacts) -> str:
    """Returns the page of a run, below MAX_BYTES in UTF-8 whatever the size of the run.

    Everything but the thumbnails of the sample is bounded, and they get what that leaves.
    """
    report, sample = facts.report, facts.sample
    findings = facts, variety(sample.vectors, sample.cosines), facts.drift
    sections = [overview.warnings(concerns(*findings), checked(*findings)), failed_images(facts)]
    if len(sample):
        counts = report["counts"]
        vectors = counts["embedded"] + counts["reused"] + counts["duplicate"]
        points, share = plane(sample.vectors)
        sections += [
            pictures.contact_sheet(sample, max(vectors, len(sample))),
            pictures.near_duplicates(sample, near_duplicates(sample.cosines)),
            pictures.image_map(sample, points, share),
        ]
    sections += [times.times(report), times.settings(report, facts.command)]
    return _document(facts, "\n".join(filter(None, sections)))


def plain(title: str, body: str) -> str:
    """Returns a page without scripts and pictures, in the style of the page of a run; both are HTML."""
    return _framed(title, body, _CSS, "")


def _document(facts: RunFacts, body: str) -> str:
    links = "".join(
        f'<a href="#{name}">{label}</a>' for name, label in _SECTIONS.items() if f'<section id="{name}"' in body
    )
    title = f"Run {escape.text(facts.report['run_id'])}"
    whole = f'{overview.header(facts.report)}\n<nav aria-label="Sections">{links}</nav>\n{body}'
    scripts = f"<script>{_JS}</script>\n"
    css = _CSS if len(set(facts.report["model"]["image_size"])) == 1 else f"{_CSS}{_WHOLE_PICTURES}"
    rules = pictures.style(facts.sample, MAX_BYTES - 1 - len(_framed(title, whole, css, scripts).encode()))
    return _framed(title, whole, f"{css}{rules}", scripts)


def _framed(title: str, body: str, css: str, scripts: str) -> str:
    """Returns a document that may use its style, its pictures and, where it has one, the script of these pages."""
    own_script = _source(_JS) if scripts else "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(css)}; "
        f"script-src {own_script}; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f'<title>{title}</title>\n<link rel="icon" href="data:,">\n<style>{css}</style>\n</head>\n<body>\n<main>\n'
        f"{body}\n</main>\n{scripts}</body>\n</html>\n"
    )


def _source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
