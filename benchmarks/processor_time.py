"""Processor time of processes that are recognized by a variable of their environment. Linux has it in `/proc`.

Unlike the time that the system counts for a child, it can be read while the processes run, and it includes processes
that nobody waits for. It is a multiple of 10 ms.
"""

import contextlib
import itertools
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

_VARIABLE = "BENCHMARK_PROCESSES"
_INTERVAL = 0.1  # seconds between samples
_TICK = 1 / os.sysconf("SC_CLK_TCK")


class Processes:
    """All processes that were started with `variables` in their environment, and those that they started."""

    def __init__(self) -> None:
        self._mark = f"{_VARIABLE}={uuid.uuid4().hex}"
        self._seconds: dict[str, float] = {}  # by process; of those that have ended, the last that was seen
        self._strangers: set[str] = set()

    @property
    def variables(self) -> Mapping[str, str]:
        return dict([self._mark.split("=")])

    def seconds(self) -> float:
        """Returns the processor time of all of them up to now, in seconds."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                self._look_at(process)
        return sum(self._seconds.values())

    def _look_at(self, process: Path) -> None:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        identity = f"{process.name} {fields[19]}"  # with its start, because numbers are used again
        if identity in self._strangers:
            return
        if identity not in self._seconds and self._mark.encode() not in (process / "environ").read_bytes():
            if float(fields[11]) + float(fields[12]) > 0:  # a process that has just begun may still become another
                self._strangers.add(identity)
            return
        self._seconds[identity] = (int(fields[11]) + int(fields[12])) * _TICK

    @contextlib.contextmanager
    def sampled(self) -> Iterator["Samples"]:
        """Takes samples of the processor time while the block runs."""
        samples, ended = Samples(), threading.Event()

        def sample() -> None:
            for wait in itertools.chain([0.0], itertools.repeat(_INTERVAL)):
                if ended.wait(wait):
                    return
                samples.add(time.time(), self.seconds())

        thread = threading.Thread(target=sample, name="processor-time")
        thread.start()
        try:
            yield samples
        finally:
            ended.set()
            thread.join()


class Samples:
    """The processor time at some moments."""

    def __init__(self) -> None:
        self._moments: list[float] = []
        self._seconds: list[float] = []

    def add(self, moment: float, seconds: float) -> None:
        self._moments.append(moment)
        self._seconds.append(seconds)

    def between(self, began: float, ended: float) -> float:
        """Returns the seconds of processor time between two moments; samples are joined by straight lines."""
        at_begin, at_end = np.interp([began, ended], self._moments, self._seconds)
        return float(at_end - at_begin)
