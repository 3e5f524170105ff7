"""A clock that stands still until a test sets it, so that tests order events by its reads and never sleep."""

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
        now = self.now  # first: a thread that waits for this read may set the clock at once
        self._reads.release()
        return now

    def wait_for_reads(self, count: int) -> None:
        """Returns when the clock has been read so many times since the last wait."""
        for _ in range(count):
            assert self._reads.acquire(timeout=60), "nobody reads the clock"
