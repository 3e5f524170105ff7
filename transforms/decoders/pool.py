"""The decoder processes of a worker, which all its threads share."""

import contextlib
import dataclasses
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import connection
from pathlib import Path

import numpy as np
import numpy.typing as npt

import transforms
from transforms.decoders.job import SLOTS, STAGE, Done, Job, Settings, Stored
from transforms.decoders.shared_memory import BEAT_SECONDS, AtWork, SharedMemory, create
from transforms.elements.records import EncodedImage, Failure, ImageRef

# How often a thread that waits looks for a process that hangs.
_LOOK_SECONDS = 0.5
# A process that has jobs and decodes none of their images for so long hangs in reading, or did not start.
_SILENT_SECONDS = 600.0
# A process has so much more time than for an image to say that it runs, because it may be about to after an image.
_LATE_SECONDS = 5 * BEAT_SECONDS
# So many processes may die one after the other without a result, or an image that is to blame, between them.
_MOST_DEATHS = 5
# An image whose decoding has ended so many processes is a failure. Something else may have ended the first.
_DEATHS_OF_AN_IMAGE = 2


class KilledTheProcess(Exception):
    """An image that was being decoded when a process died, twice or more often."""


def quarantined(key: bytes, deaths: int) -> Failure:
    """Returns the failure of an image that has killed so many processes of a run, and is not decoded again."""
    often = "twice" if deaths == _DEATHS_OF_AN_IMAGE else f"{deaths} times"
    error = KilledTheProcess(f"{often}, when a process of this run died, it was decoding this image")
    return Failure.of(key, STAGE, error)


class TookTooLong(Exception):
    """An image whose decoding was stopped after a time that is enough for any image."""

    retryable = True  # a machine that is less busy may be fast enough


@dataclasses.dataclass(frozen=True)
class Decoded:
    """The results of a job, and its pixels, uint8 (images, height, width, 3)."""

    done: Done
    pixels: npt.NDArray[np.uint8]


class Pool:
    """Starts the processes, replaces those that die or hang, and gives them jobs. Thread-safe.

    No thread of its own waits for the processes, because it would wait for Python's lock for each result. Each thread
    that needs a result receives all results that have come, also those of the other threads.
    """

    def __init__(self, settings: Settings):
        """Starts the processes."""
        self.settings = settings
        self._changed = threading.Condition()
        self._job = 0
        self._receiving = False
        self._again: deque[_Task] = deque()  # tasks of processes that have died
        self._deaths = 0
        self._looked = time.monotonic()
        self._error: RuntimeError | None = None
        self._users: weakref.WeakSet[User] = weakref.WeakSet()
        self._turns = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the pool
        self._processes = [self._start() for _ in range(settings.processes)]

    def user(self) -> "User":
        """Returns a user for one thread. The last user to leave ends the processes."""
        user = User(self, self._changed)
        with self._changed:
            self._users.add(user)
        return user

    def leave(self, user: "User") -> bool:
        """Drops the jobs of a user, and returns whether the processes were ended because there is no other."""
        user.forget()
        with self._changed:
            self._users.discard(user)
            if self._users:
                return False
            for process in self._processes:
                process.end()
            self._turns.close()
            return True

    # Whoever calls the methods below holds the lock `_changed`.

    def has_room(self, under_way: int) -> bool:
        """Returns whether a user that has so many jobs under way may send another one."""
        share = max(1, SLOTS * len(self._processes) // len(self._users))
        return under_way < share and any(process.free for process in self._processes)

    def send(self, task: "_Task") -> None:
        """Gives a task to the process that has the fewest. One has a place for it."""
        process = max(self._processes, key=lambda process: len(process.free))
        self._job += 1
        with contextlib.suppress(OSError):  # it is dead, which the next one who waits sees
            process.send(self._job, task)

    def release(self, process: "_Process", slot: int) -> None:
        """Takes back a place whose pixels were copied."""
        process.free.append(slot)
        self._send_again()
        self._changed.notify_all()

    def wait(self, is_enough: Callable[[], bool]) -> None:
        """Waits until a condition holds, and receives what comes meanwhile."""
        while True:
            if self._error:
                raise self._error
            if is_enough():
                return
            if self._receiving:
                self._changed.wait(_LOOK_SECONDS)
                continue
            by_connection = {process.connection: process for process in self._processes}
            self._receiving = True
            self._changed.release()
            try:
                ready = connection.wait(list(by_connection), _LOOK_SECONDS)
            finally:
                self._changed.acquire()
                self._receiving = False
            for each in ready:
                self._receive(by_connection[each])  # type: ignore[index]
            self._end_what_hangs()
            self._changed.notify_all()

    def _receive(self, process: "_Process") -> None:
        try:
            while process.connection.poll():
                done = process.connection.recv()
                process.heard = time.monotonic()
                if done is not None:  # the first message says that the process has started
                    self._deaths = 0
                    slot, task = process.tasks.pop(done.number)
                    user = task.user()
                    if user is None or not user.take(process, slot, done, task):
                        self.release(process, slot)
        except (EOFError, OSError):
            self._replace(process, process.shared.at_work())

    def _end_what_hangs(self) -> None:
        before, self._looked = self._looked, time.monotonic()
        if self._looked - before > 4 * _LOOK_SECONDS:
            return  # all processes may have been stopped, and this one with them: they go on, and have yet to say so
        for process in list(self._processes):
            at_work = process.shared.at_work()
            if at_work and at_work.seconds > self.settings.timeout:
                self._replace(process, at_work, TookTooLong(f"decoding took more than {self.settings.timeout:g} s"))
            elif process.tasks and not at_work and process.is_silent(self.settings.timeout):
                self._replace(process, None)

    def _replace(self, process: "_Process", at_work: AtWork | None, error: Exception | None = None) -> None:
        """Starts a process in place of another one, whose images are read and decoded again."""
        exit_code = process.end()
        self._deaths = 0 if at_work else self._deaths + 1
        if self._deaths > _MOST_DEATHS:
            self._error = RuntimeError(
                f"{_MOST_DEATHS} decoder processes ended one after the other, the last one with exit code {exit_code}: "
                "expected them to decode; --decode_processes 0 does without them"
            )
            raise self._error
        for number, (_, task) in process.tasks.items():
            if at_work and at_work.job == number:
                task.blame(at_work.image, error)
            self._again.append(task)
        self._processes[self._processes.index(process)] = self._start()
        self._send_again()

    def _send_again(self) -> None:
        while self._again and any(process.free for process in self._processes):
            self.send(self._again.popleft())

    def _start(self) -> "_Process":
        # The system ends a process with the thread that has started it, so that thread must stay.
        return _starter().submit(_Process, self.settings, self._turns.fileno()).result()


class User:
    """The jobs of one thread. Its results come in any order."""

    def __init__(self, pool: Pool, changed: threading.Condition):
        """See `Pool.user`."""
        self._pool = pool
        self._changed = changed
        self._waited = 0.0
        self.forget()

    def take_waited(self) -> float:
        """Returns the seconds that the thread has waited for results or for a place since the last call."""
        waited, self._waited = self._waited, 0.0
        return waited

    def forget(self) -> None:
        """Drops all jobs, because the bundle that they belong to has failed."""
        with self._changed:
            for process, slot, _ in getattr(self, "_results", ()):
                self._pool.release(process, slot)
            self._waited = 0.0
            self._tasks: set[_Task] = set()
            self._results: deque[tuple[_Process, int, Done]] = deque()

    def __del__(self) -> None:
        self.forget()  # a bundle that failed may have left results, whose places others need

    def submit(self, images: Sequence[ImageRef | EncodedImage]) -> Iterator[Decoded]:
        """Starts a job of at most `settings.job_images` images. Yields results that have come meanwhile.

        The pixels of a result are valid until the next one is taken.
        """
        task = _Task(self, tuple(images))
        while True:
            with self._changed:
                self._wait(lambda: bool(self._results) or self._pool.has_room(len(self._tasks)))
                if not self._results:
                    self._tasks.add(task)
                    self._pool.send(task)
                    return
            yield from self.ready()

    def ready(self) -> Iterator[Decoded]:
        """Yields the results that have come."""
        while self._results:
            with self._changed:
                process, slot, done = self._results.popleft()
            try:
                yield Decoded(done, process.shared.pixels[slot])
            finally:
                with self._changed:
                    self._pool.release(process, slot)

    def rest(self) -> Iterator[Decoded]:
        """Yields the results of all jobs."""
        while self._tasks or self._results:
            with self._changed:
                self._wait(lambda: bool(self._results))
            yield from self.ready()

    def _wait(self, is_enough: Callable[[], bool]) -> None:
        start = time.perf_counter()
        self._pool.wait(is_enough)
        self._waited += time.perf_counter() - start

    def take(self, process: "_Process", slot: int, done: Done, task: "_Task") -> bool:
        """Takes a result, unless its job was dropped."""
        if task not in self._tasks:
            return False
        self._tasks.remove(task)
        self._results.append((process, slot, done))
        return True


class _Task:
    """The images of a job, and what is known of those that have ended a process."""

    def __init__(self, user: User, images: tuple[ImageRef | EncodedImage, ...]):
        self.user = weakref.ref(user)  # the results of a user that is gone are dropped
        self.images = images
        self.failed: dict[int, Failure] = {}
        self._deaths: Counter[int] = Counter()

    def blame(self, image: int, error: Exception | None) -> None:
        """Counts the end of a process against an image. With an error, the image is a failure."""
        self._deaths[image] += 1
        if error is None and self._deaths[image] >= _DEATHS_OF_AN_IMAGE:
            error = KilledTheProcess("twice, when a decoder process died, it was decoding this image")
        if error:
            self.failed[image] = Failure.of(_ref(self.images[image]).key, STAGE, error)


class _Process:
    """A decoder process, seen from the worker.

    Attributes:
      connection: for jobs and their results.
      shared: the memory with the pixels.
      free: the slots without a job, and without pixels that are still needed.
      tasks: (slot, task) by the number of each job that is not done.
      heard: when it last answered, or was given its first job.
    """

    def __init__(self, settings: Settings, turns: int):
        self.connection, its_end = connection.Pipe()
        memory, inboxes = create(), [create() for _ in range(SLOTS)]
        self._inboxes = inboxes
        self.shared = SharedMemory(memory, SLOTS, settings.job_images, settings.size)
        self.free = list(range(SLOTS))
        self.tasks: dict[int, tuple[int, _Task]] = {}
        self.heard = time.monotonic()
        arguments = {
            "connection": its_end.fileno(),
            "shared": memory,
            "inboxes": inboxes,
            "turns": turns,
            "parent": os.getpid(),
            "settings": dataclasses.asdict(settings),
        }
        paths = [str(Path(transforms.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        # One thread is enough for the libraries that would start one for each core.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(  # noqa: S603 - this Python with a module of this package
            [sys.executable, "-P", "-m", "transforms.decoders.process", json.dumps(arguments)],
            stdin=subprocess.DEVNULL,
            pass_fds=(its_end.fileno(), memory, *inboxes, turns),
            env=environment,
        )
        its_end.close()
        os.close(memory)  # it stays mapped

    def send(self, number: int, task: _Task) -> None:
        """Gives it a job. Raises OSError if it is dead."""
        slot = self.free.pop()
        if not self.tasks:
            self.heard = time.monotonic()
        self.tasks[number] = slot, task
        self.connection.send(Job(number, slot, tuple(self._stored(task.images, slot)), task.failed))

    def is_silent(self, timeout: float) -> bool:
        """Returns whether a process that has jobs and decodes none of their images was stopped, or hangs in reading."""
        is_stopped = self.shared.silent_seconds() > timeout + _LATE_SECONDS
        return is_stopped or time.monotonic() - self.heard > _SILENT_SECONDS

    def _stored(self, images: Sequence[ImageRef | EncodedImage], slot: int) -> Iterator[ImageRef | Stored]:
        """Puts the bytes of images that were read into the inbox of a slot."""
        inbox, offset = self._inboxes[slot], 0
        os.ftruncate(inbox, 0)
        for image in images:
            if isinstance(image, ImageRef):
                yield image
            else:
                yield Stored(image.ref, offset, len(image.encoded))
                offset += os.pwrite(inbox, image.encoded, offset)

    def end(self) -> int:
        """Ends it, and returns its exit code."""
        self._process.kill()
        exit_code = self._process.wait()
        self.connection.close()
        while self._inboxes:
            os.close(self._inboxes.pop())
        return exit_code


def _ref(image: ImageRef | EncodedImage) -> ImageRef:
    return image if isinstance(image, ImageRef) else image.ref


_pools: dict[Settings, Pool] = {}
_pooling = threading.Lock()


@contextlib.contextmanager
def _pool(settings: Settings) -> Iterator[Pool]:
    with _pooling:
        if settings not in _pools:
            _pools[settings] = Pool(settings)
        yield _pools[settings]


def join(settings: Settings) -> User:
    """Returns a user of this process's pool with these settings."""
    with _pool(settings) as pool:
        return pool.user()


def leave(settings: Settings, user: User) -> None:
    """Ends the use of a pool. Its processes end with the last user."""
    with _pool(settings) as pool:
        if pool.leave(user):
            del _pools[settings]


@functools.cache
def _starter() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="start-decoders")
