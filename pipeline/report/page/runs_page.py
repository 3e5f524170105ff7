"""The page of several runs: one table in an HTML document, which needs nothing but itself and runs no script."""

from collections.abc import Collection, Mapping, Sequence

from pipeline.report.page import document, escape


def html(headings: Mapping[str, str], rows: Sequence[Mapping[str, str]], marked: Collection[str]) -> str:
    """Returns the page.

    Args:
      headings: column → its heading.
      rows: column → its text, for each run.
      marked: the runs that drifted.
    """
    head = "".join(f'<th scope="col">{escape.text(heading)}</th>' for heading in headings.values())
    body = "\n".join(_row(row, row["run"] in marked) for row in rows)
    count = f"{len(rows):,} {'run' if len(rows) == 1 else 'runs'}"
    drifted = f"{len(marked):,} of them drifted by more than chance." if marked else "None drifted by more than chance."
    return document.plain(
        count,
        f'<header><h1>{count}</h1><p class="lead">{drifted}</p></header>\n'
        f'<section><div class="wide" tabindex="0" role="region" aria-label="{count}"><table>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
        '<p class="note">shift: how far the mean vector moved, in units of the spread of the vectors, since the latest '
        "run before with the same model and at least 8 images. overlap: the share of the nearest neighbours that are "
        "the same, among images that both samples hold."
        "</p></section>",
    )


def _row(row: Mapping[str, str], is_marked: bool) -> str:
    cells = "".join(
        f'<th scope="row">{escape.text(text)}</th>' if name == "run" else f"<td>{escape.text(text)}</td>"
        for name, text in row.items()
    )
    return f'<tr class="drifted">{cells}</tr>' if is_marked else f"<tr>{cells}</tr>"
