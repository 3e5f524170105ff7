"""The input rate of a run: how many images a second its machine could give to a GPU, from the run's own measurements.

Outside the model, each image takes some time of a core, and for some time a thread of the process holds the GIL. Only
one thread of a process holds it at a time, so that bounds the rate of a process, however many cores and threads it has.
"""

import dataclasses
import math
from collections.abc import Mapping

from transforms.decode import STAGE as DECODE
from transforms.elements.records import StageSeconds
from transforms.embed import BUNDLE

# With fewer images, loading takes a large part of the time.
_LEAST_IMAGES = 1000


@dataclasses.dataclass(frozen=True)
class InputRate:
    """What an image takes outside the model, and the machine that gives it.

    Attributes:
      images_per_second: the images that the machine could give to its devices in a second.
      core_seconds: of an image.
      lock_seconds: for which a thread of the process with the model holds the GIL, for an image.
      cores: of the machine.
      worker_processes: of the machine; each has its own GIL.
    """

    images_per_second: float
    core_seconds: float
    lock_seconds: float
    cores: int
    worker_processes: int

    @classmethod
    def of(
        cls, core_seconds: float, lock_seconds: float, cores: int, worker_processes: int, in_decoders: float = 0.0
    ) -> "InputRate":
        """Returns the rate by Amdahl's law: in a worker process, nothing else goes on while a thread holds the GIL.

        Measured, it is nearer to the truth than the rate at which the GIL is always held, because threads wait for each
        other: `python -m benchmarks.feeds`.

        Args:
          core_seconds, lock_seconds, cores, worker_processes: see the attributes.
          in_decoders: the part of `core_seconds` in decoder processes, which go on meanwhile.
        """
        others = max(core_seconds - in_decoders - lock_seconds, 0.0) / max(cores / worker_processes, 1.0)
        rate = min(cores / core_seconds, worker_processes / (lock_seconds + others))
        return cls(rate, core_seconds, lock_seconds, cores, worker_processes)

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
            f"a device of {self.images_per_second:,.0f} images/s: an image takes {_ms(self.core_seconds)} of a "
            f"core and {_ms(self.lock_seconds)} of Python's lock; {self.core_seconds * 1000:.1f} cores for "
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
        core, lock = (max(facts[name], 1e-4) / 1e3 for name in ("core_ms", "lock_ms"))
        return cls(facts["images_per_second"], core, lock, int(facts["cores"]), int(facts["worker_processes"]))


def of_run(
    stages: Mapping[str, StageSeconds],
    *,
    decodes_in_processes: bool,
    decodes_elsewhere: bool,
    cores: int,
    worker_processes: int,
    decoder_processes: int | None = None,
) -> InputRate | None:
    """Returns the input rate of a run; None if it embedded too few images for that.

    Args:
      stages: stage → times.
      decodes_in_processes: whether decoder processes decode, and not the threads that call the model.
      decodes_elsewhere: whether other machines decode.
      cores, worker_processes: of a machine that embeds.
      decoder_processes: likewise, each of which takes a core at most; None if there are enough of them.
    """
    bundle = stages.get(BUNDLE)
    if bundle is None or bundle.items < _LEAST_IMAGES or bundle.core_seconds <= 0:
        return None
    process = bundle.core_seconds  # with the threads that read, whoever started them
    decoder = 0.0 if decodes_elsewhere or DECODE not in stages else stages[DECODE].core_seconds
    in_process, in_decoders = (0.0, decoder) if decodes_in_processes else (decoder, 0.0)
    # Where cores are scarce, `lock_seconds` is as much as it could be: the decoder's time too, which takes no lock.
    lock = max(min(bundle.lock_seconds, process - in_process), 1e-9)
    of_image = (seconds / bundle.items for seconds in (process + in_decoders, lock, in_decoders))
    core, lock, in_decoders = of_image
    rate = InputRate.of(core, lock, cores, worker_processes, in_decoders)
    if not in_decoders or not decoder_processes:
        return rate
    return dataclasses.replace(rate, images_per_second=min(rate.images_per_second, decoder_processes / in_decoders))


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"
