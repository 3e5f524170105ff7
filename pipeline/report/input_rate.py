"""The input rate of a run: how many images a second its machine could give to a GPU, from the run's own measurements.

Outside the model, each image takes some time of a core. For a part of it, the thread holds the GIL. Only one thread of
a process holds the GIL at a time, so that part bounds the rate of a process, however many cores and threads it has.
"""

import dataclasses
import math
from collections.abc import Mapping

from transforms.decode import STAGE as DECODE
from transforms.elements.records import StageSeconds
from transforms.embed import BUNDLE
from transforms.read import STAGE as READ

# With fewer images, loading takes a large part of the time.
_LEAST_IMAGES = 1000


@dataclasses.dataclass(frozen=True)
class InputRate:
    """What an image takes outside the model, and the machine that gives it.

    Attributes:
      core_seconds: of an image.
      lock_seconds: the part of them in the threads with the model, outside the decoder. It is a lower bound of the time
        with the GIL: threads hold it nearly all of this time, and for moments in the decoder and the model too.
      cores: of a machine.
      worker_processes: of a machine; each has its own GIL.
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
        """The most images per second that the GILs of a machine allow."""
        return self.worker_processes / self.lock_seconds

    def cores_for(self, images_per_second: float) -> int:
        """Returns how many cores keep a device of this speed busy, if the GIL allows so many images."""
        return max(1, math.ceil(images_per_second * self.core_seconds))

    def text(self) -> str:
        """Returns the rate for people."""
        return (
            f"a device of {self.images_per_second:,.0f} images/s at most: an image takes {_ms(self.core_seconds)} of a "
            f"core and at least {_ms(self.lock_seconds)} of Python's lock; {self.core_seconds * 1000:.1f} cores for "
            "each 1,000 images/s"
        )

    def facts(self) -> dict[str, float]:
        """Returns the field `feed` of a report."""
        return {
            "images_per_second": round(self.images_per_second, 1),
            "core_ms": round(self.core_seconds * 1e3, 4),
            "lock_ms": round(self.lock_seconds * 1e3, 4),
            "cores": self.cores,
            "worker_processes": self.worker_processes,
        }

    @classmethod
    def of_facts(cls, facts: Mapping[str, float]) -> "InputRate":
        """Returns the rate that `facts` states."""
        core_ms, lock_ms = max(facts["core_ms"], 1e-4), max(facts["lock_ms"], 1e-4)
        return cls(core_ms / 1e3, lock_ms / 1e3, int(facts["cores"]), int(facts["worker_processes"]))


def of_run(
    stages: Mapping[str, StageSeconds],
    *,
    decodes_in_processes: bool,
    decodes_elsewhere: bool,
    cores: int,
    worker_processes: int,
) -> InputRate | None:
    """Returns the input rate of a run; None if it embedded too few images for that.

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
    return InputRate(core / bundle.items, max(lock, 1e-9) / bundle.items, cores, worker_processes)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"
