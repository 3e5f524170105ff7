"""The page of a run as it is stored: its statistics, which another run is compared with."""

from pipeline.report.page import document
from pipeline.report.page.drift import Statistics
from transforms.output import layout
from transforms.storage import files


def statistics(output: str, run_id: str) -> Statistics | None:
    """Returns the statistics in the page of a run; None if it has no page, or one without images.

    Raises:
      ValueError: if the page is broken.
      OSError: if it cannot be read.
    """
    path = layout.page(output, run_id)
    if not files.match(path):
        return None
    with files.open_stored(path) as file:
        return document.statistics(file.read(document.MAX_BYTES).decode(errors="replace"))
