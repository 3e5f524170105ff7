"""Brings a target up to date with the rows of runs: compares, deletes, sends, builds the index, and measures it."""

import dataclasses
import itertools
import time
from collections.abc import Sequence
from typing import TextIO

import numpy as np
import numpy.typing as npt

from pipeline.commands.export import outcome
from pipeline.commands.export.current_rows import Runs
from pipeline.commands.export.difference import Difference
from pipeline.commands.export.index_recall import NEIGHBOURS, recall
from pipeline.commands.export.progress_line import ProgressLine
from pipeline.commands.export.target import LeftOut, Row, Target

_QUERIES = 100
_KEYS_PER_DELETE = 10_000
# Rows that the summary names of those that a target cannot take.
_NAMED = 10


@dataclasses.dataclass(frozen=True)
class Update:
    """An update of one target.

    Attributes:
      target: the vector search.
      name: of the target, for messages.
      metric: one of target.METRICS.
      difference: has the rows of the runs.
      runs: their files.
      screen: gets the progress.
    """

    target: Target
    name: str
    metric: str
    difference: Difference
    runs: Runs
    screen: TextIO

    def compare(self) -> None:
        """Adds the rows of the target to the difference. Raises ValueError if it is of another model."""
        progress = ProgressLine(self.screen, "", None)
        progress.say(f"comparing with {self.name}")
        self.difference.add_stored(self.target.stored(), self.target.IS_LOG)
        progress.clear()

    def check(self, max_deleted: float) -> None:
        """Raises ValueError if more than a part of the target's rows would be deleted."""
        counts = self.difference.counts()
        if counts.gone > max_deleted * counts.stored:
            raise ValueError(
                f"{counts.gone:,} of the {counts.stored:,} rows of {self.name} would be deleted, more than "
                f"--max_deleted {max_deleted:g} allows: expected --embeddings with all runs; --max_deleted 1 goes on"
            )

    def run(self, began: float) -> tuple[str, bool]:
        """Updates the target, and returns a summary, and whether the target could take any row.

        The command began at `began`, by `time.monotonic`.
        """
        before = self.difference.counts()
        self.target.prepare(bool(before.to_send), bool(before.to_delete))
        named = self._send()
        taken = self.difference.counts()
        progress = ProgressLine(self.screen, "", None)
        index, has_index = self.target.finish(bool(taken.to_send or taken.to_delete), progress.say)
        measured = None
        if has_index and taken.current > 1:
            progress.say(f"measuring recall with {min(_QUERIES, taken.current)} queries")
            measured = self._recall()
        progress.clear()
        done = outcome.Done(before.current, taken, index, measured, named, time.monotonic() - began)
        return outcome.summary(self.name, self.runs.model, done), bool(taken.current)

    def _send(self) -> list[LeftOut]:
        """Deletes what is gone, sends what is new, and returns the first rows that the target cannot take.

        The difference forgets all rows that the target cannot take.
        """
        gone = self.difference.to_delete()
        while row_keys := list(itertools.islice(gone, _KEYS_PER_DELETE)):
            self.target.delete(row_keys)
        counts = self.difference.counts()
        progress = ProgressLine(self.screen, "sending", counts.to_send)
        sent = 0
        named: list[LeftOut] = []
        for rows in self.runs.blocks(self.difference.to_send()):
            # No target can take a vector to which no distance is a number.
            finite = [row for row in rows if np.isfinite(row.vector).all()]
            fit = {row.key for row in finite}
            left_out = [LeftOut(row.key, "its vector is not finite") for row in rows if row.key not in fit]
            if finite:
                if counts.doubled and (doubled := self.difference.doubled(row.key for row in finite)):
                    self.target.delete(doubled)
                left_out += self.target.upsert(finite)
            self.difference.leave_out([row.key for row in left_out])
            named += left_out[: _NAMED - len(named)]
            sent += len(rows)
            progress.show(sent)
        progress.clear()
        return named

    def _recall(self) -> tuple[int, float]:
        """Returns the number of queries, and the recall@10 of the target's index for them."""
        rows = [row for block in self.runs.blocks(self.difference.sample(_QUERIES)) for row in block]
        keys, vectors = _keys_and_vectors(rows)
        answers = self.target.search(vectors, NEIGHBOURS + 1)
        blocks = map(_keys_and_vectors, self.runs.blocks(self.difference.current()))
        return len(rows), recall((keys, vectors), answers, blocks, self.metric)


def _keys_and_vectors(rows: Sequence[Row]) -> tuple[list[str], npt.NDArray[np.float32]]:
    return [row.key for row in rows], np.stack([row.vector for row in rows])
