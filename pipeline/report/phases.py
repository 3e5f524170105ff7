"""The phases of a run, which follow each other: starting, listing, comparing, digests, work, finishing."""

from collections.abc import Mapping

from transforms.copies import STAGE as DIGEST
from transforms.decode import STAGE as DECODE
from transforms.elements.records import StageSeconds
from transforms.embed import LOAD
from transforms.embed import STAGE as EMBED
from transforms.list import STAGE as LIST
from transforms.read import STAGE as READ

# Two more, listing and reading for digests, have the names of their stages.
START_UP, COMPARE, WORK, FINISH = "start_up", "compare", "work", "finish"


def phases(stages: Mapping[str, StageSeconds], elapsed: float) -> dict[str, float]:
    """Returns the phases of a run and their seconds, which add up to `elapsed`.

    START_UP lasts until listing begins, or the first other work, and has the time for loading the model. LIST follows.
    DIGEST reads files for digests that show which images are equal. COMPARE is the rest of the time before WORK, in
    which the runner joins the listing with earlier runs, and images of one size with each other. WORK begins with
    reading the first image and ends with the model's last call, without the time for loading the model. FINISH follows.

    Args:
      stages: stage → times, in seconds after the start of the command. Clocks of machines may differ, so they may lie
        before it or after the end.
      elapsed: seconds from the start of the command to the end.
    """
    before = {stage: stages[stage] for stage in (LIST, DIGEST) if stage in stages}
    at_work = [stages[stage] for stage in (READ, DECODE, EMBED) if stage in stages]
    idle = max((time.ended for time in before.values()), default=elapsed)
    begin = min(max(min((time.started for time in at_work), default=idle), 0.0), elapsed)
    end = min(max(max((time.ended for time in at_work), default=idle), begin), elapsed)

    seconds = {LIST: 0.0, DIGEST: 0.0}
    until = 0.0
    for stage, time in before.items():  # a second that both share is listing
        start, until = max(until, time.started), min(max(until, time.ended), begin)
        seconds[stage] = max(0.0, until - start)
    launch = min([begin, *(max(0.0, time.started) for time in before.values())])
    compare = max(0.0, begin - launch - sum(seconds.values()))
    # A worker loads the model at its first batch, while all its threads wait.
    loading = min(stages[LOAD].seconds / stages[LOAD].calls, end - begin) if LOAD in stages else 0.0
    return {
        START_UP: begin - compare - sum(seconds.values()) + loading,
        LIST: seconds[LIST],
        COMPARE: compare,
        DIGEST: seconds[DIGEST],
        WORK: end - begin - loading,
        FINISH: elapsed - end,
    }
