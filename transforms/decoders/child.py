"""A decoder process, seen from the worker that has started it. `process.py` is the other side."""

import contextlib
import json
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing import connection

from transforms.concurrent import import_path
from transforms.decoders.job import SLOTS, Done, InboxImage, Job, Settings
from transforms.decoders.shared_memory import BEAT_SECONDS, SharedMemory, create
from transforms.decoders.task import Task
from transforms.elements.records import EncodedImage, ImageRef

# A process that has jobs and decodes none of their images for so long hangs in reading, or did not start.
_SILENT_SECONDS = 600.0
# After an image has used up its time, the process has this many seconds more to say that it runs.
_LATE_SECONDS = 5 * BEAT_SECONDS


class Child:
    """A decoder process and its slots. Each slot has a task, or the pixels of a task that is done, or it is free.

    Attributes:
      connection: for jobs and their results.
      shared: the memory with the pixels.
      tasks: the tasks that are not done, by slot.
    """

    def __init__(self, settings: Settings, turns: int):
        """Starts the process. Its large images take turns with those of other processes by the descriptor `turns`.

        The system ends it when the calling thread ends.
        """
        self.connection, its_end = connection.Pipe()
        memory, inboxes = create(), [create() for _ in range(SLOTS)]
        self.shared = SharedMemory(memory, SLOTS, settings.job_images, settings.images.size)
        self.tasks: dict[int, Task] = {}
        self._held: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()
        self._heard = time.monotonic()
        self._inboxes = inboxes
        self._opened = contextlib.ExitStack()
        self._opened.callback(self.connection.close)
        for inbox in inboxes:
            self._opened.callback(os.close, inbox)
        descriptors = {"connection": its_end.fileno(), "shared": memory, "inboxes": inboxes, "turns": turns}
        # One thread is enough for the libraries that would start one for each core.
        environment = {**os.environ, **import_path.variables(), "OMP_NUM_THREADS": "1"}
        arguments = json.dumps(descriptors | {"parent": os.getpid()})
        self._process = subprocess.Popen(  # noqa: S603 - this Python with a module of this package
            [sys.executable, "-m", "transforms.decoders.process", arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=(its_end.fileno(), memory, *inboxes, turns),
            env=environment,
        )
        self.connection.send(settings)
        its_end.close()
        os.close(memory)  # it stays mapped

    def free_slots(self) -> list[int]:
        return [slot for slot in range(SLOTS) if slot not in self.tasks and slot not in self._held]

    def send(self, task: Task) -> None:
        """Gives it a task. It must have a free slot. Raises OSError if it is dead; the task is in `tasks` even then."""
        slot = self.free_slots()[0]
        if not self.tasks:
            self._heard = time.monotonic()
        self.tasks[slot] = task
        self.connection.send(Job(slot, tuple(self._with_inbox(task.images, slot)), task.failed))

    def received(self) -> Iterator[tuple[Task, Done]]:
        """Yields the tasks that are done since the last call. Then raises EOFError or OSError if it is dead."""
        while self.connection.poll():
            done = self.connection.recv()
            self._heard = time.monotonic()
            if done is not None:  # the first message says that the process has started
                yield self.tasks.pop(done.slot), done

    def hold(self, slot: int, owner: object) -> None:
        """Keeps the pixels in a slot until `release`, or until their owner is gone."""
        self._held[slot] = owner

    def release(self, slot: int) -> None:
        """Frees a slot whose pixels are no longer needed."""
        self._held.pop(slot, None)

    def is_silent(self, timeout: float) -> bool:
        """Returns whether it has jobs but decodes none of their images: it was stopped, or hangs in reading."""
        is_stopped = self.shared.silent_seconds() > timeout + _LATE_SECONDS
        return is_stopped or time.monotonic() - self._heard > _SILENT_SECONDS

    def end(self) -> int:
        """Ends it, and returns its exit code. To end it again does nothing."""
        self._process.kill()
        exit_code = self._process.wait()
        self._opened.close()
        return exit_code

    def _with_inbox(self, images: Sequence[ImageRef | EncodedImage], slot: int) -> Iterator[ImageRef | InboxImage]:
        """Puts the bytes of images that were read into the inbox of a slot."""
        inbox, offset = self._inboxes[slot], 0
        os.ftruncate(inbox, 0)
        for image in images:
            if isinstance(image, ImageRef):
                yield image
            else:
                yield InboxImage(image.ref, offset, len(image.encoded))
                offset += os.pwrite(inbox, image.encoded, offset)
