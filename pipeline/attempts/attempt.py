"""An attempt at a run. Several attempts may share one `--run_id`. Their numbers give their order.

An attempt writes parts, and gives them their final names at its end. If it dies before, the next one takes them over.

An attempt may also be stopped, lose its claim to another, and wake up. It does no harm then, whichever step it wakes
in, because every change is tied to a check of the claim:

- When a part becomes visible, the attempt checks the claim. If the claim is lost, it removes the part.
- The attempt writes a page or a report beside its final name. It renames the file only after a check.
- A file is removed only if it is still the one that was there before the check.
- The transaction that publishes rows fails if the run's row is not the one that was there before the check.

An attempt that takes over a claim calls `take_over` first. It renames all parts, and removes pages and reports that
have no final names yet. An earlier attempt then has nothing left to name. Only after that does the new attempt check
whether the run is complete.
"""

import contextlib
import dataclasses
import datetime
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.attempts import attempt_label
from pipeline.flags.options import EmbedConfig
from pipeline.report import run_report
from pipeline.report.run_report import RunReport
from transforms.decoders import journal
from transforms.output import layout, shards
from transforms.output.parts import Label
from transforms.storage import contested, files, locations, stores

# The outcome in the label of parts that repeat records of an earlier attempt. The first records stay in place until the
# run is finished, so these parts are not read.
RESUMED = "resumed"

_DECODING = "decoding"

_REMOVALS = 3


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One attempt at a run. It travels to the workers.

    Attributes:
      run_id: names the run.
      started_at: when the attempt began.
      place: where its parts and its claim lie: --output, or for a run without one a directory in --temp_location.
      output: --output, if the run has one.
      continues: whether earlier attempts have left parts.
      quarantine: images that were being decoded when earlier attempts died, at least twice: the name as in `journal`,
        and the number of deaths.
      claim: the path of the claim to the run; None if this attempt holds none.
      number: counts the attempts at the run from 1; 0 without a claim. The parts and the report state the number and
        the start.
    """

    run_id: str
    started_at: datetime.datetime
    place: str
    output: str | None
    continues: bool = False
    quarantine: Mapping[bytes, int] = dataclasses.field(default_factory=dict)
    claim: str | None = None
    number: int = 0

    @property
    def label(self) -> str:
        """The number and the start as text in the names of parts. Texts of later attempts are greater."""
        return attempt_label.label(self.number, self.started_at)

    def labels(self, outcomes: tuple[str, ...]) -> tuple[Label, ...]:
        """Returns the labels of parts with records of these outcomes."""
        return tuple(Label(self.label, outcome) for outcome in outcomes)

    @property
    def vectors(self) -> str:
        """The directory of the run's vectors, with or without --output."""
        return layout.vectors(self.place, self.run_id)

    @property
    def _report(self) -> str:
        return layout.report(str(self.output), self.run_id)

    @property
    def _page(self) -> list[str]:
        """The files of the page, in the order in which they are removed."""
        return [of(str(self.output), self.run_id) for of in reversed(layout.OF_PAGE)]

    @property
    def journals(self) -> str | None:
        """The prefix of the paths of this attempt's journals; None in a bucket, which cannot hold them."""
        if not locations.is_local(self.place):
            return None
        return f"{layout.parts(self.vectors)}/{Label(self.label, _DECODING)}"

    def deaths(self) -> Mapping[bytes, int]:
        """Returns the names of the images that were being decoded when earlier attempts died, and how often."""
        if not locations.is_local(self.place):
            return {}
        at_work = {(label, journal.read(path)) for label, path in self._of_earlier() if label.outcome == _DECODING}
        return Counter(image for _, image in at_work if image)

    def remove_journals(self) -> None:
        """Removes this attempt's journals, because no image has killed its process."""
        if locations.is_local(self.place):
            own = Label(self.label, _DECODING)
            journals = [path for path in shards.unnamed(self.vectors) if Label.of(path) == own]
            files.remove_all(journals, layout.parts(self.vectors))

    def remove_repetitions(self) -> None:
        """Removes the parts in which earlier attempts repeat the vectors of still earlier ones."""
        files.remove_files([path for label, path in self._of_earlier() if label.outcome == RESUMED])

    def newest(self) -> int:
        """Returns the highest number of an attempt that has left parts or a report."""
        directories = self.vectors, layout.failures(self.place, self.run_id)
        labels = [label.attempt for each in directories for path in shards.unnamed(each) if (label := Label.of(path))]
        labels.append((self._report_label() if self.output else None) or "")
        return max(map(attempt_label.number, labels))

    def take_over(self) -> None:
        """Makes sure that no earlier attempt changes a file from now on. Call it first, under the claim.

        Vectors that earlier attempts have stored stay, under other names.
        """
        shards.rename_parts(list(self.earlier_parts()))
        shards.remove_parts(layout.failures(self.place, self.run_id))
        if not self.output:
            return
        for path in (self._report, *self._page):
            files.remove_pending(path)
        if not stores.is_bucket(self.output):  # in a bucket, a copy appears whole or not at all
            for directory in (self.vectors, layout.failures(self.place, self.run_id)):
                files.remove_pending(layout.shards(directory))

    def is_lost(self) -> bool:
        """Returns whether this attempt has lost its claim, or has given it up."""
        return self.claim is not None and self._own_claim(self.claim) is None

    def check_claim(self) -> None:
        """Raises contested.Lost if another process has taken over the run or completed it, or the claim is gone."""
        if not self.is_lost():
            return
        if self.output and self._report_label() == self.label:
            return  # a runner repeats the last step of a run that is complete
        raise contested.Lost(
            f"run_id={self.run_id!r}: the claim {self.claim} is not this attempt's any more, so it names no file: "
            "has another process taken over the run, or was the output removed?"
        )

    def retire(self) -> None:
        """Removes the report of an earlier attempt at this run, if there is one, and what lies beside it.

        Call it when this attempt's files are complete, before the first of them gets a final name. From then on, old
        and new files lie side by side. If the job dies there, the run must not look complete.

        Raises:
          contested.Lost: see `check_claim`. Then all stay.
          OSError: if the report cannot be removed.
        """
        if not self.output:
            self.check_claim()
            return
        paths = *self._page, self._report
        states = {path: files.state(path) for path in paths}  # before the check: a file written later stays
        label = self._report_label()
        self.check_claim()
        # A bundle may run late, and meet the report of its own attempt or of a later one. That report stays.
        if label is None or label >= self.label:
            return
        for path, state in states.items():
            if state:
                files.remove_in_state(path, state)
        if states[self._report] and files.state(self._report) == states[self._report]:
            raise OSError(
                f"{self._report} cannot be removed: it is the report of an earlier run, whose files this run replaces"
            )

    def finish(self) -> None:
        """Removes all parts of this attempt and of earlier ones, and then the claim: the run is complete."""
        self.remove_parts(after=self.label)
        if self.claim is None:
            return
        # The process that holds the claim may rewrite it between a check and the removal, to show that it is alive.
        for _ in range(_REMOVALS):
            if (own := self._own_claim(self.claim)) is None:
                return
            with contextlib.suppress(contested.Lost):
                contested.remove(self.claim, own.state)

    def _own_claim(self, claim: str) -> contested.Content | None:
        """Returns the content of a claim, or None if it is gone or another attempt's."""
        present = contested.read(claim)
        return present if present and _field(present.content, "attempt") == self.label else None

    def _report_label(self) -> str | None:
        """Returns the label of the attempt that wrote the report; "" if it is broken; None if there is none."""
        try:
            content = files.read(self._report)
        except OSError:
            if not files.match(self._report):
                return None
            content = files.read(self._report)  # another process may have written it just now
        number = _field(content, "attempt")
        return attempt_label.of_report(number if isinstance(number, int) else 0, _field(content, "started_at"))

    def remove_parts(self, after: str | None = None) -> None:
        """Removes the parts of all attempts, except of those that began after the attempt `after`."""
        for directory in (self.vectors, layout.failures(self.place, self.run_id)):
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
    """Returns whether this process's attempt at the run wrote a report, and not another of the same name."""
    return report.started_at == run_report.timestamp(config.started_at)


def label_of(report: RunReport) -> str:
    """Returns the label of the attempt that wrote a report."""
    return attempt_label.of_report(report.attempt, report.started_at)


def _field(content: bytes, name: str) -> Any:
    """Returns a field of a JSON object; None if there is no such field, or the content is something else."""
    try:
        return json.loads(content)[name]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
