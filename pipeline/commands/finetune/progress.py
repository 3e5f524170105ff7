"""Live progress of a training: one line per epoch and, on a terminal, a line that is redrawn."""

import time
from collections.abc import Callable, Mapping
from typing import TextIO

from pipeline.runners.console import REDRAW

_TERMINAL_SECONDS = 0.2
_BAR = 24


class TrainingProgress:
    """A `classifier.Watch` that shows the progress of a training."""

    def __init__(self, screen: TextIO, *, epochs: int, batches: int, clock: Callable[[], float] = time.monotonic):
        """Shows that the first epoch starts. Bad images may make an epoch shorter than `batches`."""
        self._screen = screen
        self._epochs = epochs
        self._batches = batches
        self._clock = clock
        self._terminal = screen.isatty()
        self._epoch_start = self._last_drawn = clock()
        self._show("epoch 1: starting")

    def batch(self, epoch: int, batch: int, measured: Mapping[str, float]) -> None:
        """Shows the measures after a batch, if it is time to redraw. `epoch` and `batch` count from 1."""
        now = self._clock()
        if now - self._last_drawn < _TERMINAL_SECONDS:
            return
        self._last_drawn = now
        done = min(batch / self._batches, 1.0)
        left = (now - self._epoch_start) * (1 / done - 1)
        bar = ("#" * round(done * _BAR)).ljust(_BAR, ".")
        self._show(f"epoch {epoch} of {self._epochs} [{bar}] {_measures(measured)}, {left:.0f} s left")

    def epoch(self, epoch: int, measured: Mapping[str, float]) -> None:
        """Writes the line of an epoch that ended, counted from 1."""
        now = self._clock()
        line = f"epoch {epoch} of {self._epochs}: {_measures(measured)}"
        if "val_loss" in measured:
            line += f"; validation {_measures(measured, 'val_')}"
        self._show("")
        self._screen.write(f"{line}; {now - self._epoch_start:.1f} s\n")
        self._screen.flush()
        self._epoch_start = now

    def _show(self, line: str) -> None:
        if self._terminal:
            self._screen.write(f"{REDRAW}{line}")
            self._screen.flush()


def _measures(measured: Mapping[str, float], prefix: str = "") -> str:
    return f"loss {measured[f'{prefix}loss']:.3f}, accuracy {measured[f'{prefix}accuracy']:.3f}"
