"""An attempt at a run. Several attempts may share one `--run_id`; their start times tell them apart.

An attempt writes parts, and names them at its end. What an attempt leaves that dies before is taken over by the next.
"""

import contextlib
import dataclasses
import datetime
import json
from collections import Counter
from collections.abc import Iterator, Mapping

from pipeline.options import EmbedConfig
from pipeline.report import run_report
from pipeline.report.run_report import RunReport
from transforms import failures, journal, shards, vector_files
from transforms.parts import Label
from transforms.storage import contested, files, locations

# The outcome of images that an earlier attempt embedded, in the label of the parts that hold them again. Their first
# record stays where it is until the run is finished, so these parts are not read.
RESUMED = "resumed"

_DECODING = "decoding"

CLAIM_SUFFIX = ".unfinished"

_REMOVALS = 3


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One attempt at a run. It travels to the workers.

    Attributes:
      run_id: names the run.
      started_at: when the attempt began; all its parts and its report say so.
      place: where its parts and its claim lie: --output, or for a run without one a directory in --temp_location.
      output: --output, if the run has one.
      continues: whether earlier attempts have left parts.
      quarantine: names, as in `journal`, of images that were being decoded when earlier attempts died, twice or more
        often, and how often.
      claim: the path of the claim to the run; None if this attempt holds none.
    """

    run_id: str
    started_at: datetime.datetime
    place: str
    output: str | None
    continues: bool = False
    quarantine: Mapping[bytes, int] = dataclasses.field(default_factory=dict)
    claim: str | None = None

    @property
    def label(self) -> str:
        """The start as text in the names of parts. Texts of later attempts are greater."""
        return self.started_at.strftime("%Y%m%dT%H%M%S.") + f"{self.started_at.microsecond // 1000:03d}Z"

    def labels(self, outcomes: tuple[str, ...]) -> tuple[Label, ...]:
        """Returns the labels of parts with records of these outcomes."""
        return tuple(Label(self.label, outcome) for outcome in outcomes)

    @property
    def vectors(self) -> str:
        """The directory of the run's vectors, with or without --output."""
        return vector_files.directory(self.place, self.run_id)

    @property
    def journals(self) -> str | None:
        """The first half of the paths of this attempt's journals; None in a bucket, which has no place for them."""
        if not locations.is_local(self.place):
            return None
        return f"{shards.parts(self.vectors)}/{Label(self.label, _DECODING)}"

    def deaths(self) -> Mapping[bytes, int]:
        """Returns the names of the images that were being decoded when earlier attempts died, and how often."""
        if not locations.is_local(self.place):
            return {}
        at_work = {(label, journal.read(path)) for label, path in self._of_earlier() if label.outcome == _DECODING}
        return Counter(image for _, image in at_work if image)

    def remove_journals(self) -> None:
        """Removes this attempt's journals, because no image ends it."""
        if locations.is_local(self.place):
            own = Label(self.label, _DECODING)
            files.remove_files([path for path in shards.unnamed(self.vectors) if Label.of(path) == own])

    def remove_repetitions(self) -> None:
        """Removes the parts in which earlier attempts have written again the vectors of still earlier ones."""
        files.remove_files([path for label, path in self._of_earlier() if label.outcome == RESUMED])

    def check_claim(self) -> None:
        """Raises OSError if another process has taken over the run or completed it, or the claim is gone."""
        if self.claim is None:
            return
        report = run_report.path(self.output, self.run_id) if self.output else None
        if report and _started_at(report) == run_report.timestamp(self.started_at):
            return  # a runner repeats the last step of a run that is complete
        if self._own_claim(self.claim) is None:
            raise OSError(
                f"run_id={self.run_id!r}: the claim {self.claim} is not this attempt's any more, so it names no file: "
                "has another process taken over the run, or was the output removed?"
            )

    def retire(self) -> None:
        """Removes the report of an earlier attempt at this run, if there is one, and its page.

        Call it when this attempt's files are complete, before the first of them gets a final name. From then on, old
        and new files lie side by side. If the job dies there, the run must not look complete.
        """
        if not self.output:
            return
        report = run_report.path(self.output, self.run_id)
        started_at = _started_at(report)
        # A bundle may run late, and meet the report of its own attempt or of a later one. That report stays.
        if started_at is None or started_at >= run_report.timestamp(self.started_at):
            return
        files.remove_file(run_report.page_path(self.output, self.run_id))
        files.remove_file(report)
        if files.match(report):
            raise OSError(
                f"{report} cannot be removed: it is the report of an earlier run, whose files this run replaces"
            )

    def finish(self) -> None:
        """Removes all parts of this attempt and of earlier ones, and then the claim: the run is complete."""
        self.remove_parts(after=self.label)
        if self.claim is None:
            return
        # The process that holds the claim may rewrite it between a look and the removal, to show that it lives.
        for _ in range(_REMOVALS):
            if (own := self._own_claim(self.claim)) is None:
                return
            with contextlib.suppress(contested.Lost):
                contested.remove(self.claim, own.state)

    def _own_claim(self, claim: str) -> contested.Content | None:
        """Returns the content of a claim, or None if it is gone or another attempt's."""
        present = contested.read(claim)
        return present if present and json.loads(present.content)["attempt"] == self.label else None

    def remove_parts(self, after: str | None = None) -> None:
        """Removes the parts of all attempts, except of those that began after the attempt `after`."""
        for directory in (self.vectors, failures.directory(self.place, self.run_id)):
            shards.remove_parts(directory, after=after)

    def earlier_parts(self) -> Iterator[str]:
        """Yields the parts of vectors that earlier attempts have left, except those that repeat others."""
        yield from (path for label, path in self._of_earlier() if label.outcome not in (RESUMED, _DECODING))

    def _of_earlier(self) -> Iterator[tuple[Label, str]]:
        for path in shards.unnamed(self.vectors):
            if (label := Label.of(path)) and label.attempt < self.label:
                yield label, path


def of(config: EmbedConfig, temp_location: str | None = None) -> Attempt:
    """Returns the attempt of this process at a run, before it holds the claim.

    Args:
      config: of the run.
      temp_location: a gs:// directory for the parts of a run without --output.
    """
    place = config.output or f"{temp_location}/{config.output_table}"
    return Attempt(config.run_id, config.started_at, place, config.output)


def wrote(config: EmbedConfig, report: RunReport) -> bool:
    """Returns whether this attempt at the run wrote a report, and not an earlier attempt of the same name."""
    return report.started_at == run_report.timestamp(config.started_at)


def started_at(label: str) -> str:
    """Returns the start of an attempt as reports state it; "" if the text is no label."""
    try:
        return run_report.timestamp(datetime.datetime.fromisoformat(label))
    except ValueError:
        return ""


def _started_at(report: str) -> str | None:
    """Returns `started_at` of a report; "" if the file holds something else; None if there is no file."""
    try:
        return str(json.loads(files.read(report))["started_at"])
    except (ValueError, KeyError, TypeError):
        return ""
    except OSError:
        if files.match(report):
            raise
        return None
