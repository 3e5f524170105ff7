"""What an export says at its end."""

import dataclasses
from collections.abc import Sequence

from pipeline.commands.export.difference import Counts
from pipeline.commands.export.target import LeftOut, Model
from transforms.elements.one_line import printable

# Characters of each end of a long key.
_ENDS = 60


def plan(counts: Counts, name: str) -> str:
    """Returns what an export into the target of this name would do."""
    return (
        f"{counts.current:,} vectors in the runs; to {name} would be sent {counts.new:,} new and {counts.replaced:,} "
        f"replaced, and {counts.gone:,} would be deleted{_mended(counts)}; nothing was changed"
    )


def _mended(counts: Counts) -> str:
    return f", {counts.doubled:,} with several rows mended" if counts.doubled else ""


@dataclasses.dataclass(frozen=True)
class Done:
    """What an export has done.

    Attributes:
      vectors: number of keys of the runs.
      taken: without the keys that the target cannot take.
      index: a line about the index, as `Target.finish` returns it.
      measured: the number of queries, and the recall@10 for them; None if it was not measured.
      named: the first rows that the target cannot take.
      seconds: that all of it took.
    """

    vectors: int
    taken: Counts
    index: str
    measured: tuple[int, float] | None
    named: Sequence[LeftOut]
    seconds: float


def summary(name: str, model: Model, done: Done) -> str:
    """Returns what an export into the target of this name has done."""
    taken, left_out = done.taken, done.vectors - done.taken.current
    changes = (
        f"{taken.new:,} new, {taken.replaced:,} replaced, {taken.gone:,} deleted{_mended(taken)}"
        if taken.to_send or taken.to_delete
        else "nothing to send"
    )
    if left_out:
        changes += f", {left_out:,} left out"
    lines = [
        f"{done.vectors:,} vectors in the runs → {name}: {changes}, {done.seconds:.1f} s",
        "",
        f"  model     digest {model.digest}, {model.dimension} dimensions",
        f"  index     {done.index}",
    ]
    if done.measured:
        lines.append(
            f"  recall    {done.measured[1]:.3f} at 10, of {done.measured[0]} queries against exact search in float32"
        )
    lines += [f"  left out  {_shortened(row.key)}: {row.reason}" for row in done.named]
    if left_out > len(done.named):
        lines.append(f"  left out  {left_out - len(done.named):,} more")
    return "\n".join(lines)


def _shortened(key: str) -> str:
    shown = printable(key)
    return shown if len(shown) <= 2 * _ENDS else f"{shown[:_ENDS]}…{shown[-_ENDS:]}"
