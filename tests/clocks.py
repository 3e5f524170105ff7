"""A clock that stands until a test sets it: events are ordered by who has read it, never by waiting a while."""

import threading


class Clock:
    """Stands in for the module `time` of a module under test.

    Attributes:
      now: seconds, as `perf_counter` gives them.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._reads = threading.Semaphore(0)

    def perf_counter(self) -> float:
        now = self.now  # before the read is told: who waits for it may set the clock at once
        self._reads.release()
        return now

    def wait_for_reads(self, count: int) -> None:
        """Returns when the clock has been read so many times since the last wait."""
        for _ in range(count):
            assert self._reads.acquire(timeout=60), "nobody reads the clock"
