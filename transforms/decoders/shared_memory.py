"""Memory that a worker and a decoder process share: the process's state, and places for the pixels of its jobs.

It is an anonymous file, and not in /dev/shm, which has 64 MB in a container. It is freed when the last process that has
it open ends.
"""

import contextlib
import mmap
import os
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_HEADER_BYTES = 4096
# Values of the state: the slot of the job, the index of the image in it, since when it is being decoded, and when the
# process last said that it runs.
_SLOT, _IMAGE, _SINCE, _BEAT = range(4)
_NONE = -1.0
# How often a process says that it runs.
BEAT_SECONDS = 1.0


class AtWork(NamedTuple):
    """The image that a process decodes: the slot of its job, its index there, and the seconds so far."""

    slot: int
    image: int
    seconds: float


class SharedMemory:
    """Both processes open it with the same arguments.

    Attributes:
      pixels: uint8 (slots, images, height, width, 3).
    """

    def __init__(self, descriptor: int, slots: int, images: int, size: tuple[int, int]):
        """Maps the memory of a descriptor from `create`."""
        shape = (slots, images, *size, 3)
        length = _length(shape)
        if os.fstat(descriptor).st_size < length:  # the worker opens it first
            os.ftruncate(descriptor, length)
            os.pwrite(descriptor, np.float64(_NONE).tobytes(), _IMAGE * 8)
        memory = mmap.mmap(descriptor, length)
        self._state: npt.NDArray[np.float64] = np.frombuffer(memory, np.float64, 4)
        self.pixels: npt.NDArray[np.uint8] = np.frombuffer(
            memory, np.uint8, length - _HEADER_BYTES, _HEADER_BYTES
        ).reshape(shape)

    def begin(self, slot: int, image: int) -> None:
        """Says that the decoding of an image begins."""
        self._state[_SINCE] = time.monotonic()
        self._state[_SLOT] = slot
        self._state[_IMAGE] = image

    def end(self) -> None:
        """Says that no image is being decoded."""
        self._state[_IMAGE] = _NONE

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Says that the image waits for its turn, and is not being decoded, while the `with` block runs."""
        image = self._state[_IMAGE]
        self.end()
        yield
        self._state[_SINCE] = time.monotonic()
        self._state[_IMAGE] = image

    def at_work(self) -> AtWork | None:
        """Returns the image that is being decoded, or None."""
        slot, image, since, _ = self._state
        return None if image == _NONE else AtWork(int(slot), int(image), time.monotonic() - since)

    def beat(self) -> None:
        """Says that the process runs."""
        self._state[_BEAT] = time.monotonic()

    def silent_seconds(self) -> float:
        """Returns the seconds since the process last said that it runs; 0 if it has not begun to."""
        beat = float(self._state[_BEAT])
        return time.monotonic() - beat if beat else 0.0


def create() -> int:
    """Returns a descriptor of new memory, which a child process can inherit."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("decoder", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _length(shape: tuple[int, ...]) -> int:
    return _HEADER_BYTES + int(np.prod(shape, dtype=np.int64))
