"""The feed of a run: how many images a second its machine could give to a device, from the run's own measurements.

An image takes a core for some time, outside the model, and it takes Python's lock for a part of that. One thread of a
process has the lock at a time, so neither more cores nor more threads help beyond one image in that part.
"""

import dataclasses
import math
from collections.abc import Mapping

from transforms.decode import STAGE as DECODE
from transforms.elements.records import StageSeconds
from transforms.embed import BUNDLE
from transforms.read import STAGE as READ

# With fewer images, what is loaded once takes a large part of the time.
_LEAST_IMAGES = 1000


@dataclasses.dataclass(frozen=True)
class Feed:
    """What it takes to feed a model.

    Attributes:
      core_seconds: of an image, outside the model.
      lock_seconds: the part of `core_seconds` that threads with the model spend outside the decoder. They have the
        lock in nearly all of it. They also have it for moments in the decoder and in the call of the model.
      cores: of a machine.
      worker_processes: of a machine; each has a lock of its own.
    """

    core_seconds: float
    lock_seconds: float
    cores: int
    worker_processes: int

    @property
    def images_per_second(self) -> float:
        """The most images that a machine could give to its devices in a second."""
        return min(self.cores / self.core_seconds, self.of_lock)

    @property
    def of_lock(self) -> float:
        """The most images that pass through the locks of a machine in a second."""
        return self.worker_processes / self.lock_seconds

    def cores_for(self, images_per_second: float) -> int:
        """Returns how many cores keep a device of such a speed busy, if the lock lets so many images pass."""
        return max(1, math.ceil(images_per_second * self.core_seconds))

    def text(self) -> str:
        """Returns the feed for people."""
        return (
            f"a device of {self.images_per_second:,.0f} images/s at most: an image takes {_ms(self.core_seconds)} of a "
            f"core and at least {_ms(self.lock_seconds)} of Python's lock; {self.core_seconds * 1000:.1f} cores for "
            "each 1,000 images/s"
        )

    def facts(self) -> dict[str, float]:
        """Returns the feed for programs."""
        return {
            "images_per_second": round(self.images_per_second, 1),
            "core_ms": round(self.core_seconds * 1e3, 4),
            "lock_ms": round(self.lock_seconds * 1e3, 4),
            "cores": self.cores,
            "worker_processes": self.worker_processes,
        }

    @classmethod
    def of_facts(cls, facts: Mapping[str, float]) -> "Feed":
        """Returns the feed that `facts` states."""
        core_ms, lock_ms = max(facts["core_ms"], 1e-4), max(facts["lock_ms"], 1e-4)
        return cls(core_ms / 1e3, lock_ms / 1e3, int(facts["cores"]), int(facts["worker_processes"]))


def of(
    stages: Mapping[str, StageSeconds],
    *,
    decodes_in_processes: bool,
    decodes_elsewhere: bool,
    cores: int,
    worker_processes: int,
) -> Feed | None:
    """Returns the feed of a run; None if it embedded too few images to tell.

    Args:
      stages: stage → times.
      decodes_in_processes: whether decoder processes decode, and not the threads that call the model.
      decodes_elsewhere: whether other machines decode.
      cores, worker_processes: of a machine that embeds.
    """
    bundle = stages.get(BUNDLE)
    if bundle is None or bundle.items < _LEAST_IMAGES or bundle.core_seconds <= 0:
        return None
    threads = bundle.core_seconds
    read, decoder = (stages[stage].core_seconds if stage in stages else 0.0 for stage in (READ, DECODE))
    if decodes_elsewhere:
        core, lock = threads, threads
    elif decodes_in_processes:
        core, lock = threads + read + decoder, threads
    else:
        core, lock = threads + read, threads - decoder  # files are read in threads of their own
    lock = max(lock, 1e-9)
    return Feed(core / bundle.items, lock / bundle.items, cores, worker_processes)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"
