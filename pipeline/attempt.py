"""An attempt at a run. Several attempts may share one `--run_id`; their start times tell them apart."""

import datetime
import functools
import json
from collections.abc import Callable

from pipeline.options import EmbedConfig
from pipeline.report import run_report
from pipeline.report.run_report import RunReport
from transforms.storage import files


def wrote(config: EmbedConfig, report: RunReport) -> bool:
    """Returns whether this attempt at the run wrote a report, and not an earlier attempt of the same name."""
    return report.started_at == _timestamp(config.started_at)


def retirement(config: EmbedConfig) -> Callable[[], None]:
    """Returns a function for workers that removes the report of an earlier attempt at this run, if there is one.

    Call it when this attempt's files are complete, before the first of them gets a final name. From then on, old and
    new files lie side by side. If the job dies there, the run must not look complete.
    """
    report = run_report.path(config.output or "", config.run_id)
    return functools.partial(_retire, report, _timestamp(config.started_at))


def _retire(path: str, started_at: str) -> None:
    # A bundle may run late, and meet the report of its own attempt or of a later one. That report stays.
    try:
        is_earlier = json.loads(files.read(path))["started_at"] < started_at
    except (ValueError, KeyError, TypeError):
        is_earlier = True  # the file holds half a report, or something else
    except Exception:
        if files.match(path):
            raise
        return
    if not is_earlier:
        return
    files.remove_file(path)
    if files.match(path):
        raise OSError(f"{path} cannot be removed: it is the report of an earlier run, whose files this run replaces")


def _timestamp(started_at: datetime.datetime) -> str:
    return started_at.isoformat(timespec="milliseconds")  # the format of `started_at` in a report
