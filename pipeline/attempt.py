"""An attempt at a run: several may have one `--run_id`, and the moment that each started tells them apart."""

import datetime
import functools
import json
from collections.abc import Callable

from pipeline.options import EmbedConfig
from pipeline.report import run_report
from pipeline.report.run_report import RunReport
from transforms.storage import files


def wrote(config: EmbedConfig, report: RunReport) -> bool:
    """Returns whether a report is of this attempt at the run, and not of an earlier one of the same name."""
    return report.started_at == _moment(config.started_at)


def retirement(config: EmbedConfig) -> Callable[[], None]:
    """Returns a function for workers that removes the report of an earlier attempt at this run, if there is one.

    Call it when this attempt's files are complete, before the first of them gets a final name. From then on, old and
    new files lie side by side. If the job dies there, the run must not look complete.
    """
    return functools.partial(_retire, run_report.path(config.output or "", config.run_id), _moment(config.started_at))


def _retire(path: str, started_at: str) -> None:
    # A bundle that wakes up late finds the report of its own attempt, or of a later one, and leaves it.
    try:
        is_earlier = json.loads(files.read(path))["started_at"] < started_at
    except (ValueError, KeyError, TypeError):
        is_earlier = True  # half of a report, or no report at all
    except Exception:
        if files.match(path):
            raise
        return
    if not is_earlier:
        return
    files.remove_file(path)
    if files.match(path):
        raise OSError(f"{path} cannot be removed: it is the report of an earlier run, whose files are being replaced")


def _moment(started_at: datetime.datetime) -> str:
    return started_at.isoformat(timespec="milliseconds")  # as a report has it
