"""Leftovers: hidden files in an output that dead processes were writing beside their final names.

A live process holds the claim to its run while it writes such a file. So a file is left over if its run has no claim,
or if it was written by an earlier attempt at the run whose claim this process holds. No clock decides this, because the
clocks of two machines differ.
"""

import logging
import re

from pipeline.attempts.attempt import Attempt
from transforms.elements.one_line import one_line
from transforms.output import layout
from transforms.storage import files

_LOG = logging.getLogger(__name__)

# Earlier versions wrote such a file to test whether they may write. They held no claim then.
_TRIAL = re.compile(r"\.{1,2}trial-[0-9a-f]{32}(?:\.[0-9a-f]{32})?")


def remove(attempt: Attempt) -> None:
    """Removes the leftovers of dead processes from an output.

    Leftovers of a run that another process may hold stay. An unfinished schema file may belong to any run, so it stays
    while there are other claims. A file that cannot be removed causes a warning, because it only takes room.

    Args:
      attempt: at a run, whose claim it holds.
    """
    try:
        # Before the claims: a process that ends in between has removed its file itself.
        hidden = files.hidden(layout.runs(attempt.place)), files.hidden(attempt.place)
        claims = files.match(layout.claim(attempt.place, "*"))
        others = {layout.run_id(claim.path) for claim in claims} - {attempt.run_id}
        for path in hidden[0]:
            if (run := layout.run_being_written(_name(path))) and run not in others:
                files.remove_file(path)
        for path in hidden[1]:
            is_schema = files.is_unfinished(_name(path), layout.SCHEMA)
            if _TRIAL.fullmatch(_name(path)) or (is_schema and not others):
                files.remove_file(path)
    except OSError as error:
        _LOG.warning("leftovers in %s could not be removed: %s", attempt.place, one_line(error))


def _name(path: str) -> str:
    return path.rpartition("/")[2]
