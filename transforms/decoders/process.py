"""A decoder process: reads and decodes the images of one job after the other. `pool.py` starts it."""

import contextlib
import ctypes
import fcntl
import json
import os
import queue
import resource
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from transforms.decoders.job import SLOTS, Done, InboxImage, Job, Settings
from transforms.decoders.shared_memory import BEAT_SECONDS, SharedMemory
from transforms.elements import keys
from transforms.elements.records import EncodedImage, Failure, ImageInfo, ImageRef
from transforms.images import memory
from transforms.images.decode_image import decode_or_failure
from transforms.storage import locations, read_image

# The most address space that a process may add after its start. The largest image that may be decoded needs 1.5 GB, in
# the worst format.
_MEMORY_BYTES = 4 << 30

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

# glibc returns freed memory above a threshold at once, and gets it again for the next image, page by page. That takes
# as long as decoding. With these thresholds glibc keeps it (malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD).
_THRESHOLDS = {-1: 64 << 20, -3: 32 << 20}

Read = tuple[EncodedImage | Failure, float]
Reads = list[Future[Read] | None]


class _Turns(memory.Budget):
    """Large images take turns with those of other processes: one at a time, besides small ones."""

    def __init__(self, total: int, lock: int, state: SharedMemory):
        super().__init__(total)
        self._lock = lock
        self._state = state

    def take(self, size: int) -> None:
        if size >= self.total:
            with self._state.waiting():
                fcntl.lockf(self._lock, fcntl.LOCK_EX)

    def give_back(self, size: int) -> None:
        if size >= memory.RETURNED_BYTES:
            memory.return_freed_memory()
        if size >= self.total:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)


def main(connection: int, shared: int, inboxes: list[int], turns: int, parent: int) -> None:
    """Works until the connection is closed. The first message is the worker's `Settings`.

    Args:
      connection, shared, inboxes, turns: descriptors. They are those of the connection to the worker, of the shared
        memory, of one file of read images per slot, and of a file by which large images take turns.
      parent: the id of the worker's process.
    """
    _end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which ends this process
    _limit_memory()
    _keep_memory()
    with Connection(connection) as worker:
        settings = worker.recv()
        state = SharedMemory(shared, SLOTS, settings.job_images, settings.images.size)
        threading.Thread(target=_beat, args=(state,), daemon=True).start()
        memory.BUDGET = _Turns(memory.DECODING_BYTES // settings.processes, turns, state)
        decoder = _Decoder(settings, state, inboxes)
        jobs: queue.SimpleQueue[tuple[Job, Reads]] = queue.SimpleQueue()
        threading.Thread(target=_receive, args=(worker, jobs, decoder), daemon=True).start()
        worker.send(None)  # ready
        while True:
            worker.send(decoder.done(*jobs.get()))


def _end_with(parent: int) -> None:
    """Ends this process when the worker ends, even while a decoder hangs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _limit_memory() -> None:
    with contextlib.suppress(OSError, ValueError):  # a machine without /proc, or with a lower limit
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + _MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _keep_memory() -> None:
    with contextlib.suppress(AttributeError):  # another C library
        for option, size in _THRESHOLDS.items():
            ctypes.CDLL(None).mallopt(option, size)


def _beat(state: SharedMemory) -> None:
    """Keeps saying that this process runs, also while it reads or waits for its turn. If stopped, it falls silent."""
    while True:
        state.beat()
        time.sleep(BEAT_SECONDS)


def _receive(worker: Connection, jobs: "queue.SimpleQueue[tuple[Job, Reads]]", decoder: "_Decoder") -> None:
    """Takes jobs and starts to read their remote images, while the other thread decodes."""
    try:
        while True:
            job = worker.recv()
            jobs.put((job, decoder.start(job)))
    except (EOFError, OSError):
        os._exit(0)  # the worker has ended


class _Decoder:
    def __init__(self, settings: Settings, state: SharedMemory, inboxes: Sequence[int]):
        self._settings = settings
        self._state = state
        self._inboxes = inboxes
        self._bytes_read = 0
        self._core_seconds = time.process_time()
        self._readers = ThreadPoolExecutor(settings.read_concurrency, thread_name_prefix="read")

    def start(self, job: Job) -> Reads:
        """Starts to read the remote images of a job. Returns None for any other image."""
        return [
            self._readers.submit(self._read, image)
            if index not in job.failed and isinstance(image, ImageRef) and not locations.is_local(keys.uri(image.key))
            else None
            for index, image in enumerate(job.images)
        ]

    def done(self, job: Job, reads: Reads) -> Done:
        self._bytes_read = 0
        done = [self._result(job, index, started) for index, started in enumerate(reads)]
        results, read, decode = zip(*done, strict=True)
        before, self._core_seconds = self._core_seconds, time.process_time()
        return Done(job.slot, results, read, decode, self._bytes_read, self._core_seconds - before)

    def _result(
        self, job: Job, index: int, started: Future[Read] | None
    ) -> tuple[ImageInfo | Failure, float | None, float | None]:
        if failure := job.failed.get(index):
            return failure, None, None
        image = job.images[index]
        if isinstance(image, InboxImage):
            content = os.pread(self._inboxes[job.slot], image.length, image.offset)
            encoded: EncodedImage | Failure = EncodedImage(image.ref, content)
            read_seconds: float | None = None
        else:
            encoded, read_seconds = started.result() if started else self._read(image)
        if isinstance(encoded, Failure):
            return encoded, read_seconds, None
        if read_seconds is not None:
            self._bytes_read += len(encoded.encoded)
        self._state.begin(job.slot, index)
        start = time.perf_counter()
        decoded = decode_or_failure(encoded, self._settings.images, self._state.pixels[job.slot, index])
        seconds = time.perf_counter() - start
        self._state.end()
        return decoded, read_seconds, seconds

    def _read(self, ref: ImageRef) -> Read:
        start = time.perf_counter()
        return read_image.read_or_failure(self._settings.storage, ref), time.perf_counter() - start


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
