"""How busy GPUs are over time: `nvidia-smi` samples them beside a run."""

import contextlib
import dataclasses
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from statistics import fmean

_COMMAND = (
    "nvidia-smi",
    "--query-gpu=pci.bus_id,utilization.gpu,memory.used",
    "--format=csv,noheader,nounits",
    "--loop-ms=200",
)
_LOW = 50
_TENTHS = 10


@dataclasses.dataclass(frozen=True)
class Sample:
    """One sample of one GPU.

    Attributes:
      at: seconds since the epoch.
      busy: percent of the time before, of 1/6 s to 1 s, in which the GPU computed.
      memory_mib: its memory in use.
    """

    at: float
    busy: float
    memory_mib: float


@dataclasses.dataclass(frozen=True)
class Use:
    """How busy GPUs were between two moments.

    Attributes:
      samples: their number.
      mean: percent.
      low: percent of the samples in which a GPU was busy for less than half of the time.
      tenths: percent, the mean of each tenth of the time; None where it has no sample.
      memory_mib: the greatest memory in use by one GPU.
    """

    samples: int
    mean: float
    low: float
    tenths: list[float | None]
    memory_mib: float


@contextlib.contextmanager
def sampled(bus_ids: Collection[str]) -> Iterator[list[Sample]]:
    """Samples GPUs while the block runs, five times a second, into the list that it yields.

    The list stays empty without `nvidia-smi`, and where a GPU does not count its use, as a part of one (MIG) does not.

    Args:
      bus_ids: the GPUs, by their addresses on the PCI bus; if empty, all of the machine.
    """
    samples: list[Sample] = []
    if not shutil.which(_COMMAND[0]):
        yield samples
        return
    # A terminal of its own, because a program that writes into a pipe may hold its lines back.
    reading, writing = os.openpty()
    with subprocess.Popen(_COMMAND, stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.DEVNULL) as sampler:
        os.close(writing)
        reader = threading.Thread(target=_read, args=(reading, bus_ids, samples), daemon=True)
        reader.start()
        try:
            yield samples
        finally:
            sampler.kill()
            reader.join()


def _read(terminal: int, bus_ids: Collection[str], samples: list[Sample]) -> None:
    with open(terminal, errors="replace") as lines, contextlib.suppress(OSError):
        for line in lines:  # until the other side is closed, which is an OSError for a terminal
            if sample := parse(line, time.time(), bus_ids):
                samples.append(sample)


def parse(line: str, at: float, bus_ids: Collection[str]) -> Sample | None:
    """Returns the sample in a line of `nvidia-smi`; None if it has none, or is of another GPU."""
    try:
        bus_id, busy, memory_mib = (field.strip() for field in line.split(","))
        sample = Sample(at, float(busy), float(memory_mib))
    except ValueError:  # [N/A], or a message
        return None
    # TensorFlow writes the bus's domain in four digits, and nvidia-smi in eight.
    return sample if not bus_ids or bus_id.lower().endswith(tuple(bus_ids)) else None


def between(samples: Sequence[Sample], began: float, ended: float) -> Use | None:
    """Returns how busy the GPUs were between two moments, in seconds since the epoch; None without a sample."""
    inside = [sample for sample in samples if began <= sample.at <= ended]
    if not inside:
        return None
    tenths: list[list[float]] = [[] for _ in range(_TENTHS)]
    for sample in inside:
        position = (sample.at - began) / (ended - began) if ended > began else 0.0
        tenths[min(int(position * _TENTHS), _TENTHS - 1)].append(sample.busy)
    return Use(
        len(inside),
        fmean(sample.busy for sample in inside),
        100 * fmean(sample.busy < _LOW for sample in inside),
        [fmean(tenth) if tenth else None for tenth in tenths],
        max(sample.memory_mib for sample in inside),
    )
