"""The end of an attempt at a run: done, failed or interrupted. Each stores what it can, and lets go of the claim."""

import functools
from typing import NamedTuple

from pipeline import warehouse
from pipeline.attempts import attempt as attempts
from pipeline.attempts import claim, interruption
from pipeline.attempts.begin import Begun
from pipeline.flags.options import EmbedConfig
from pipeline.report import run_report
from pipeline.report.run_report import RunReport
from transforms.output import parts

# How long to wait until the storage says whether a failed job had written its report.
_PATIENCE_SECONDS = 30.0


class Ended(NamedTuple):
    """How an attempt has ended.

    Attributes:
      report: its own; None if the job has not written one, or not yet.
      error: of the job; a KeyboardInterrupt if it was interrupted; None if it is done.
      has_lost_claim: whether another process now has the run, or the output was removed.
    """

    report: RunReport | None = None
    error: BaseException | None = None
    has_lost_claim: bool = False


def done(begun: Begun) -> Ended:
    """Ends the claim of a job that its runner calls done, which may mean submitted."""
    report = _own_report(begun.config)
    claim.end(begun.holder, begun.attempt, report)
    return Ended(report)


def failed(begun: Begun, error: BaseException, *, is_on_this_machine: bool) -> Ended:
    """Ends the claim if the job has written its report before it failed; else leaves it to the next attempt.

    If the storage is gone, the job has already waited for it. This gives up after seconds, and returns no report.
    """
    report, has_lost_claim = None, False

    def end_if_complete() -> None:
        nonlocal report
        if written := _own_report(begun.config):
            report = written
            claim.end(begun.holder, begun.attempt, written)

    def leave() -> None:
        nonlocal has_lost_claim
        if report:
            return
        begun.holder.leave()
        if begun.attempt.is_lost():  # another attempt continues the run, so this one withdraws its open parts
            has_lost_claim = True
            parts.take_back_all()
            begun.attempt.remove_journals()

    if begun.publication and is_on_this_machine:  # a job on a cluster may live on
        interruption.store([functools.partial(warehouse.publish.discard, begun.publication)], _PATIENCE_SECONDS)
    interruption.store([end_if_complete, leave], _PATIENCE_SECONDS)
    begun.holder.stop()
    return Ended(report, error, has_lost_claim)


def interrupted(begun: Begun, error: KeyboardInterrupt, *, is_on_this_machine: bool) -> Ended:
    """Stores the open parts of this machine's workers, and leaves the claim. A job on a cluster goes on."""
    interruption.ignore_further()
    if is_on_this_machine:
        steps = [parts.save_all, begun.attempt.remove_journals, begun.holder.leave]
        if begun.publication:
            steps.append(functools.partial(warehouse.publish.discard, begun.publication))
        interruption.store(steps)
    begun.holder.stop()
    return Ended(error=error)


def stored_report(config: EmbedConfig) -> RunReport | None:
    """Returns the report of the run, whichever attempt wrote it; None if there is none."""
    if config.output:
        return run_report.read(config.output, config.run_id)
    return warehouse.publish.published(config.output_table or "", config.run_id)


def _own_report(config: EmbedConfig) -> RunReport | None:
    """Returns the report of this attempt at the run; None if there is none yet. An earlier attempt's does not count."""
    report = stored_report(config)
    return report if report and attempts.wrote(config, report) else None
