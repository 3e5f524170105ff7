"""The runs before a run in its output: the previous one, and the one whose images it is compared with."""

import logging
from collections.abc import Iterable

from pipeline.report import run_report, statistics_file
from pipeline.report.page.drift import Statistics
from pipeline.report.run_report import RunReport
from transforms.output import layout
from transforms.storage import files

_LOG = logging.getLogger(__name__)

# A run is compared with one of this many runs before it. Some are broken, embedded nothing, or used another model.
MOST_REPORTS = 10


def before(output: str, report: RunReport) -> list[RunReport]:
    """Returns the reports of runs that began before this one, the latest first.

    Reads only the MOST_REPORTS reports whose files changed last. Files that are unreadable or no reports are left out.
    """
    own = layout.report(output, report.run_id)
    others = [each for each in files.match(layout.report(output, "*")) if each.path != own]
    others.sort(key=lambda each: each.changed, reverse=True)
    reports = (_read(output, layout.run_id(each.path)) for each in others[:MOST_REPORTS])
    earlier = [each for each in reports if each and each.started_at < report.started_at]
    return sorted(earlier, key=lambda each: each.started_at, reverse=True)


def statistics(output: str, earlier: Iterable[RunReport], digest: str) -> tuple[str, Statistics] | None:
    """Returns the first of these runs that a run of this model can be compared with, and its statistics.

    Args:
      output: of the runs.
      earlier: their reports, as `before` returns them.
      digest: of the model.
    """
    for report in earlier:
        if report.model["digest"] == digest:
            stored = _statistics(output, report.run_id)
            if stored and stored.digest == digest and stored.can_be_compared:
                return report.run_id, stored
    return None


def _read(output: str, run_id: str) -> RunReport | None:
    try:
        return run_report.read(output, run_id)
    except (ValueError, OSError) as error:
        _LOG.warning("a report is passed over: %s", error)
        return None


def _statistics(output: str, run_id: str) -> Statistics | None:
    try:
        return statistics_file.read(output, run_id)
    except (ValueError, OSError) as error:
        _LOG.warning("no drift is computed from the statistics of %s, because they cannot be used: %s", run_id, error)
        return None
