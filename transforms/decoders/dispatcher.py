"""Which decoder process has which task, and what becomes of the tasks of a process that dies or hangs.

Nothing here knows of threads: `Pool` lets one thread in at a time.
"""

import contextlib
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from transforms.decoders.child import Child
from transforms.decoders.job import SLOTS, Done, Settings
from transforms.decoders.shared_memory import AtWork
from transforms.decoders.task import Task, TookTooLong

# How often a thread that waits for results looks for a process that hangs.
LOOK_SECONDS = 0.5
# The system ends a process when the thread that started it ends, so that thread must stay.
_STARTER = ThreadPoolExecutor(1, thread_name_prefix="start-decoders")
# This many processes may die in a row without a result, or an image to blame, in between.
_MOST_DEATHS = 5


class Result(NamedTuple):
    """The results of a job, and the process that has its pixels."""

    child: Child
    done: Done

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """Of the images, uint8 (images, height, width, 3); valid until the slot is released."""
        return self.child.shared.pixels[self.done.slot]


class Tasks:
    """The tasks of one thread.

    Attributes:
      under_way: those that are not done.
      results: those that are done. The thread may take them from the left at any time.
    """

    def __init__(self) -> None:
        self.under_way: set[Task] = set()
        self.results: deque[Result] = deque()


class Dispatcher:
    """Starts the processes, gives them tasks, and replaces those that die or hang.

    Attributes:
      children: the processes.
    """

    def __init__(self, settings: Settings):
        """Starts the processes."""
        self._settings = settings
        self._turns = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the processes
        self._again: deque[Task] = deque()  # tasks of processes that have died
        self._deaths = 0
        self._looked = time.monotonic()
        self._error: RuntimeError | None = None
        self.children = [self._start() for _ in range(settings.processes)]

    def end(self) -> None:
        for child in self.children:
            child.end()
        self._turns.close()

    def check(self) -> None:
        """Raises RuntimeError if too many processes have died one after the other."""
        if self._error:
            raise self._error

    def has_room(self, tasks: Tasks, users: int) -> bool:
        """Returns whether a thread with these tasks may send another one. The threads share the slots equally."""
        share = max(1, SLOTS * len(self.children) // users)
        return len(tasks.under_way) < share and any(child.free_slots() for child in self.children)

    def send(self, task: Task) -> None:
        """Gives a task to the process that has the most free slots, at least one."""
        child = max(self.children, key=lambda child: len(child.free_slots()))
        with contextlib.suppress(OSError):  # it is dead; the next thread that waits notices
            child.send(task)

    def release(self, result: Result) -> None:
        """Frees the slot of a result."""
        result.child.release(result.done.slot)
        self._send_again()

    def drop(self, tasks: Tasks) -> None:
        """Drops tasks and their results, also those that have yet to come."""
        tasks.under_way.clear()
        while tasks.results:
            self.release(tasks.results.popleft())

    def receive(self, ready: Sequence[object]) -> None:
        """Takes the results from connections on which something has come, and replaces processes that died or hang."""
        for child in [child for child in self.children if child.connection in ready]:
            self._receive(child)
        self._end_what_hangs()
        self._send_again()

    def _receive(self, child: Child) -> None:
        try:
            for task, done in child.received():
                self._deaths = 0
                tasks = task.owner()
                if tasks is not None and task in tasks.under_way:  # they were not dropped
                    tasks.under_way.remove(task)
                    tasks.results.append(Result(child, done))
                    child.hold(done.slot, tasks)
        except (EOFError, OSError):
            self._replace(child, child.shared.at_work())

    def _end_what_hangs(self) -> None:
        before, self._looked = self._looked, time.monotonic()
        if self._looked - before > 4 * LOOK_SECONDS:
            return  # all processes may have been stopped, and this one too. They run again, but have not said so yet
        timeout = self._settings.timeout
        for child in list(self.children):
            at_work = child.shared.at_work()
            if at_work and at_work.seconds > timeout:
                self._replace(child, at_work, TookTooLong(f"decoding took more than {timeout:g} s"))
            elif child.tasks and not at_work and child.is_silent(timeout):
                self._replace(child, None)

    def _replace(self, child: Child, at_work: AtWork | None, error: Exception | None = None) -> None:
        """Starts a process in place of another one, whose images are read and decoded again."""
        exit_code = child.end()
        self._deaths = 0 if at_work else self._deaths + 1
        if self._deaths > _MOST_DEATHS:
            self._error = RuntimeError(
                f"{_MOST_DEATHS} decoder processes ended one after the other, the last one with exit code {exit_code}: "
                "expected them to decode; --decode_processes 0 does without them"
            )
            return
        for slot, task in child.tasks.items():
            if at_work and at_work.slot == slot:
                task.blame(at_work.image, error)
            self._again.append(task)
        self.children[self.children.index(child)] = self._start()

    def _send_again(self) -> None:
        while self._again and any(child.free_slots() for child in self.children):
            self.send(self._again.popleft())

    def _start(self) -> Child:
        return _STARTER.submit(Child, self._settings, self._turns.fileno()).result()
