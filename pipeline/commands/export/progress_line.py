"""The progress of an export: on a terminal a line that redraws itself, elsewhere a new line every 30 s."""

import time
from collections.abc import Callable
from typing import TextIO

from pipeline.runners.console import REDRAW

_TERMINAL_SECONDS = 0.2
_PLAIN_SECONDS = 30.0


class ProgressLine:
    """Shows how many rows are done."""

    def __init__(self, screen: TextIO, work: str, total: int | None, clock: Callable[[], float] = time.monotonic):
        """Starts the clock. `work` is what is done, as in "sending", and `total` the number of rows, if it is known."""
        self._screen = screen
        self._work = work
        self._total = total
        self._clock = clock
        self._terminal = screen.isatty()
        self._started = self._drawn = clock()

    def show(self, done: int) -> None:
        """Shows the number of rows that are done, if it is time."""
        now = self._clock()
        if now - self._drawn < (_TERMINAL_SECONDS if self._terminal else _PLAIN_SECONDS):
            return
        self._drawn = now
        rate = done / (now - self._started)
        parts = [
            f"{self._work} {done:,} rows" if self._total is None else f"{self._work} {done:,} of {self._total:,} rows"
        ]
        parts.append(f"{rate:,.0f} rows/s")
        if self._total and rate:
            parts.append(f"{(self._total - done) / rate:.0f} s left")
        self._write(", ".join(parts))

    def say(self, line: str) -> None:
        """Shows a line on a terminal, until the next one."""
        if self._terminal:
            self._write(line)

    def clear(self) -> None:
        """Removes the line from a terminal."""
        if self._terminal:
            self._write("")

    def _write(self, line: str) -> None:
        self._screen.write(f"{REDRAW}{line}" if self._terminal else f"{line}\n")
        self._screen.flush()
