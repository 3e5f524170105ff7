"""The statistics of a run's sample, in a file beside its report: what a later run is compared with."""

from collections.abc import Callable

from pipeline.report.page.drift import Statistics
from transforms.output import layout
from transforms.storage import files

# The statistics of the longest vectors take less than half of it.
MAX_BYTES = 2**20


def read(output: str, run_id: str) -> Statistics | None:
    """Returns the statistics of a run. None without a page or an image, and for a run of an earlier version.

    Raises:
      ValueError: if the file holds something else.
      OSError: if it cannot be read.
    """
    path = layout.statistics(output, run_id)
    if not files.match(path):
        return None
    with files.open_stored(path) as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError(f"expected the statistics of a sample: at most {MAX_BYTES} bytes")
    return Statistics.from_json(text)


def write(output: str, run_id: str, content: bytes, check: Callable[[], object] | None = None) -> None:
    """Writes the statistics of a run, see `files.write`. Without content, it removes those of an earlier attempt."""
    path = layout.statistics(output, run_id)
    if content:
        files.write(path, content, check)
    elif state := files.state(path):
        if check:
            check()
        files.remove_in_state(path, state)
