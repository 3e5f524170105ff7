"""The content of a run's page as plain values. No Beam, no files."""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.page import drift
from pipeline.report.page.drift import Drift, Statistics
from pipeline.report.page.sampled_images import Sample
from transforms.models.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class FailedImage:
    """An image without a vector, as in a Failure; `thumbnail` is a JPEG, or b"" if the image does not decode."""

    key: bytes
    stage: str
    error: str
    message: str
    retryable: bool
    thumbnail: bytes = b""


@dataclasses.dataclass(frozen=True, eq=False)
class RunFacts:
    """All that the page shows.

    Attributes:
      report: the content of the run's report, `runs/<run_id>.json`.
      sample: images that have a vector.
      failures: some of the images that failed, in any order.
      command: the command line of the run.
      retry: the command line that tries failed images again; "" if no other try may help.
      failure_files: where the records of all failures are; "" if nowhere.
      previous: the content of the report of the run before; None if there is none.
      compared_run, compared_statistics: the latest run before with the same model and enough images in its sample,
        and their statistics; "" and None if there is none.
    """

    report: Mapping[str, Any]
    sample: Sample
    failures: Sequence[FailedImage] = ()
    command: str = ""
    retry: str = ""
    failure_files: str = ""
    previous: Mapping[str, Any] | None = None
    compared_run: str = ""
    compared_statistics: Statistics | None = None

    @functools.cached_property
    def statistics(self) -> Statistics | None:
        """What a later run is compared with; None if there is nothing to compare."""
        return drift.statistics(self.sample, self.report["model"]["digest"])

    @property
    def drift(self) -> Drift | None:
        """The difference to the compared run; None if there is none, or the two cannot be compared."""
        if not self.compared_statistics or not self.statistics:
            return None
        return drift.between(self.compared_statistics, self.statistics)


def value_text(value: Any) -> str:
    """Returns a value of a report's model for people. Not yet escaped.

    >>> value_text((224, 224)), value_text("")
    ('224×224', 'none')
    """
    if isinstance(value, Mapping):
        with contextlib.suppress(ValueError, TypeError, KeyError):  # of another version
            return Preprocessing.from_facts(value).text()
    if isinstance(value, list | tuple):
        return "×".join(map(str, value)) or "none"
    return "none" if value in ("", None) else str(value)
