"""The decoder processes of a worker, which all its threads share."""

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection

from transforms.decoders.dispatcher import LOOK_SECONDS, Dispatcher, Result, Tasks
from transforms.decoders.job import Settings
from transforms.decoders.task import Task
from transforms.elements.records import EncodedImage, ImageRef


class User:
    """The jobs of one thread. Their results come in any order.

    The slot of a result is taken back when the thread asks for the next one, or forgets all.
    """

    def __init__(self, pool: "Pool"):
        """See `Pool.join`."""
        self.pool = pool
        self.tasks = Tasks()
        self.waited = 0.0
        self._taken: Result | None = None

    def take_waited(self) -> float:
        """Returns the seconds that the thread has waited for results or for a slot since the last call."""
        waited, self.waited = self.waited, 0.0
        return waited

    def forget(self) -> None:
        """Drops all jobs, because the bundle that they belong to has failed."""
        self._give_back()
        self.pool.drop(self.tasks)
        self.waited = 0.0

    def submit(self, images: Sequence[ImageRef | EncodedImage]) -> Iterator[Result]:
        """Starts a job of at most `settings.job_images` images. Yields results that have come meanwhile.

        The pixels of a result are valid until the next one is taken.
        """
        task = Task(self.tasks, tuple(images))
        while not self.pool.send(self, task):
            yield from self.ready()

    def ready(self) -> Iterator[Result]:
        """Yields the results that have come."""
        self._give_back()
        while self.tasks.results:
            self._taken = self.tasks.results.popleft()
            yield self._taken
            self._give_back()

    def rest(self) -> Iterator[Result]:
        """Yields the results of all jobs."""
        while self.tasks.under_way or self.tasks.results:
            self.pool.wait_for_a_result(self)
            yield from self.ready()

    def _give_back(self) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            self.pool.release(taken)


class Pool:
    """Lets the threads of a worker share a `Dispatcher`. Each public method takes the lock, and may be called anywhere.

    The pool has no thread to wait for the processes, because that thread would wait for the GIL for each result.
    Instead, one of the threads that wait for a result receives the results of all.
    """

    def __init__(self, settings: Settings):
        """Starts the processes."""
        self._changed = threading.Condition(threading.Lock())
        # What the lock of `_changed` guards:
        self._dispatcher = Dispatcher(settings)
        self._users: weakref.WeakSet[User] = weakref.WeakSet()
        self._is_receiving = False

    def join(self) -> User:
        """Returns a user for one thread. The last user to leave ends the processes."""
        user = User(self)
        with self._changed:
            self._users.add(user)
        return user

    def leave(self, user: User) -> bool:
        """Drops the jobs of a user, and returns whether the processes were ended because there is no other."""
        user.forget()
        with self._changed:
            self._users.discard(user)
            if not self._users:
                self._dispatcher.end()
            return not self._users

    def send(self, user: User, task: Task) -> bool:
        """Sends a task once there is room for it. Returns False if results of the user have come before."""
        with self._changed:
            tasks = user.tasks
            self._wait(user, lambda: bool(tasks.results) or self._dispatcher.has_room(tasks, len(self._users)))
            if tasks.results:
                return False
            tasks.under_way.add(task)
            self._dispatcher.send(task)
            return True

    def wait_for_a_result(self, user: User) -> None:
        with self._changed:
            self._wait(user, lambda: bool(user.tasks.results))

    def release(self, result: Result) -> None:
        """Takes back the slot of a result, whose pixels were copied."""
        with self._changed:
            self._dispatcher.release(result)
            self._changed.notify_all()

    def drop(self, tasks: Tasks) -> None:
        """Drops tasks, and takes back the slots of their results."""
        with self._changed:
            self._dispatcher.drop(tasks)
            self._changed.notify_all()

    def _wait(self, user: User, is_enough: Callable[[], bool]) -> None:
        """Waits until a condition holds. Receives results meanwhile, unless another thread does."""
        start = time.perf_counter()
        while True:
            self._dispatcher.check()
            if is_enough():
                break
            if self._is_receiving:
                self._changed.wait(LOOK_SECONDS)
            else:
                self._receive()
        user.waited += time.perf_counter() - start

    def _receive(self) -> None:
        """Waits for results without the lock, so that other threads can send jobs, and hands them out."""
        connections = [child.connection for child in self._dispatcher.children]
        self._is_receiving = True
        self._changed.release()
        try:
            ready = connection.wait(connections, LOOK_SECONDS)
        finally:
            self._changed.acquire()
            self._is_receiving = False
        self._dispatcher.receive(ready)
        self._changed.notify_all()


_pools: dict[Settings, Pool] = {}
_pooling = threading.Lock()


def join(settings: Settings) -> User:
    """Returns a user of this process's pool with these settings."""
    with _pooling:
        if settings not in _pools:
            _pools[settings] = Pool(settings)
        return _pools[settings].join()


def leave(settings: Settings, user: User) -> None:
    """Ends the use of a pool. Its processes end with the last user."""
    with _pooling:
        if user.pool.leave(user):
            del _pools[settings]
