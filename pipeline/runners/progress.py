"""Live progress: a line that updates itself on a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TextIO

from pipeline.runners.console import REDRAW
from transforms.elements import counters

_DONE = (
    counters.IMAGES_EMBEDDED,
    counters.IMAGES_REUSED,
    counters.IMAGES_DUPLICATE,
    counters.IMAGES_SKIPPED,
    counters.IMAGES_RESUMED,
)
_TERMINAL_SECONDS = 0.5
_PLAIN_SECONDS = 30.0


class Progress:
    """Shows the progress of a run while its `with` block runs."""

    def __init__(
        self,
        count: Callable[[], Mapping[str, int]],
        screen: TextIO,
        *,
        total_is_listed: bool,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Sets the source of the numbers, and the stream for the lines.

        Args:
          count: returns the counters so far, by metric name. A thread of its own calls it.
          screen: a terminal, or any other stream.
          total_is_listed: whether the run lists all images before it embeds the first, as it does unless they come
            from shards. Only then does a line show the total and the time left.
          clock: returns seconds.
        """
        self._count = count
        self._screen = screen
        self._total_is_listed = total_is_listed
        self._clock = clock
        self._terminal = screen.isatty()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._started = clock()
        self._first: tuple[float, int] | None = None

    def __enter__(self) -> "Progress":
        self._started = self._clock()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._terminal:
            self._screen.write(REDRAW)
            self._screen.flush()

    def line(self) -> str:
        """Returns the line for this moment."""
        counts = self._count()
        failed = counts.get(counters.IMAGES_FAILED, 0)
        done = failed + sum(counts.get(name, 0) for name in _DONE)
        listed = counts.get(counters.IMAGES_LISTED, 0)
        now = self._clock()
        if not done:
            return f"starting, {_duration(now - self._started)}" + (f", {listed} images listed" if listed else "")
        # The rate counts from the first images on, because loading the model says nothing about the speed after it.
        start, before = self._first = self._first or (now, done)
        rate = (done - before) / (now - start) if now > start else 0.0
        parts = [f"{done} of {listed} images" if self._total_is_listed else f"{done} images"]
        if rate:
            parts.append(f"{rate:.1f} images/s")
        parts.append(f"{failed} failed")
        if self._total_is_listed and rate:
            parts.append(f"{_duration((listed - done) / rate)} left")
        return ", ".join(parts)

    def _run(self) -> None:
        while not self._stop.wait(_TERMINAL_SECONDS if self._terminal else _PLAIN_SECONDS):
            line = self.line()
            self._screen.write(f"{REDRAW}{line}" if self._terminal else f"{line}\n")
            self._screen.flush()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
