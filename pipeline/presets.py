"""Presets: where a job runs and with what. One table; whatever the command line gives wins over it.

No Beam here: the flags' help names what the table holds.
"""

import dataclasses
import re
from pathlib import Path

from transforms.cores import usable_cores

# Named explicitly: Beam's `DirectRunner` is a choice among runners, some of which ignore the flags below.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"
DATAFLOW = "DataflowRunner"

_SETUP = Path(__file__).parents[1] / "setup.py"
# What workers without an image of their own install; installed by pip, this package has no setup.py beside it.
SETUP_FILE = str(_SETUP) if _SETUP.is_file() else None

ONE_PROCESS = "no_use_multiple_sdk_containers"
VCPUS = "one for each vCPU"

# None: what Beam or Dataflow does by itself. The flags are Beam's, but for the last two.
# fmt: off
PRESETS = ("local", "flink", "dataflow", "dataflow-gpu")
_TABLE: dict[str, tuple[str | int | None, ...]] = {
    #                                    local              flink              dataflow         dataflow-gpu
    "runner":                           (LOCAL_RUNNER,      "FlinkRunner",     DATAFLOW,        DATAFLOW),
    # One process, so that all threads share one model; decoding and inference leave Python's lock. Beam runs a bundle
    # a worker at once in this mode too, whatever it warns of; with "multi_threading" each element goes through gRPC.
    "direct_running_mode":              ("in_memory",       None,              None,            None),
    "direct_num_workers":               (usable_cores(),    None,              None,            None),
    # A worker pool beside each TaskManager: python -m apache_beam.runners.worker.worker_pool_main
    "environment_type":                 (None,              "EXTERNAL",        None,            None),
    "environment_config":               (None,              "localhost:50000", None,            None),
    # A worker stays, and keeps its model, between the stages of a job: docs/flink.md.
    "environment_cache_millis":         (None,              60_000,            None,            None),
    "parallelism":                      (None,              2,                 None,            None),
    "machine_type":                     (None,              None,              "n1-standard-4", "n1-standard-4"),
    "disk_size_gb":                     (None,              None,              50,              50),
    "max_num_workers":                  (None,              None,              10,              10),
    # The image of GPU workers holds all that they need; the plain one installs this package as it starts.
    "setup_file":                       (None,              None,              SETUP_FILE,      None),
    "sdk_location":                     (None,              None,              None,            "container"),
    # One process a worker, whose threads share one model on the GPU.
    "experiments":                      (None,              None,              None,            ONE_PROCESS),
    "number_of_worker_harness_threads": (None,              None,              None,            VCPUS),
    "batch_size":                       (32,                32,                32,              64),
    "gpu":                              (None,              None,              None,            "nvidia-l4"),
}
# fmt: on
OWN = ("batch_size", "gpu")


def settings(preset: str) -> dict[str, str | int]:
    """Returns flag → value of one preset, without the flags that it leaves alone."""
    column = PRESETS.index(preset)
    return {flag: value for flag, row in _TABLE.items() if (value := row[column]) is not None}


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a machine type has: vCPUs, and memory in GB."""

    vcpus: int
    memory_gb: float


# GB a vCPU of Compute Engine's predefined machine types:
# https://cloud.google.com/compute/docs/general-purpose-machines and …/accelerator-optimized-machines
_GB_A_VCPU = {
    "n1-standard": 3.75, "n1-highmem": 6.5, "n1-highcpu": 0.9,
    "n2-standard": 4, "n2-highmem": 8, "n2-highcpu": 1,
    "n2d-standard": 4, "n2d-highmem": 8, "n2d-highcpu": 1,
    "e2-standard": 4, "e2-highmem": 8, "e2-highcpu": 1,
    "g2-standard": 4,
}  # fmt: skip
# By the number of GPUs in the name.
_A_GPU = {"a2-highgpu": Shape(12, 85), "a2-ultragpu": Shape(12, 170)}


def shape(machine_type: str) -> Shape:
    """Returns what a machine type has.

    Raises:
      ValueError: if it is none that this project knows.
    """
    parsed = re.fullmatch(r"([a-z0-9]+-[a-z]+)-(\d+)(g?)", machine_type)
    if parsed and parsed[1] in _GB_A_VCPU and not parsed[3]:
        return Shape(int(parsed[2]), int(parsed[2]) * _GB_A_VCPU[parsed[1]])
    if parsed and parsed[1] in _A_GPU and parsed[3]:
        one, gpus = _A_GPU[parsed[1]], int(parsed[2])
        return Shape(one.vcpus * gpus, one.memory_gb * gpus)
    raise ValueError(
        f"machine type {machine_type!r} is unknown here: expected {', '.join((*_GB_A_VCPU, *_A_GPU))}, and its size"
    )


# GPU → GPUs a worker → the machine type that takes them: https://cloud.google.com/compute/docs/gpus
_N1 = {count: f"n1-standard-{8 * count}" for count in (1, 2, 4)}
GPUS = {
    "nvidia-l4": {1: "g2-standard-8", 2: "g2-standard-24", 4: "g2-standard-48", 8: "g2-standard-96"},
    "nvidia-tesla-t4": _N1,
    "nvidia-tesla-p4": _N1,
    "nvidia-tesla-p100": _N1,
    "nvidia-tesla-v100": _N1,
    "nvidia-tesla-a100": {count: f"a2-highgpu-{count}g" for count in (1, 2, 4, 8)},
    "nvidia-a100-80gb": {count: f"a2-ultragpu-{count}g" for count in (1, 2, 4, 8)},
}


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """The GPUs of a worker, and the machine that they are in."""

    gpu: str
    count: int
    machine_type: str

    @property
    def hint(self) -> str:
        """As Dataflow's resource hint: https://cloud.google.com/dataflow/docs/guides/right-fitting.

        With its machine type, so that workers without a GPU keep --machine_type: a G2 machine always has its L4.
        """
        return f"type:{self.gpu};count:{self.count};machine_type:{self.machine_type};install-nvidia-driver"


def accelerator(gpu: str, count: int, machine_type: str | None) -> Accelerator:
    """Returns GPUs in a machine that takes them: the one given, or this project's choice.

    Raises:
      ValueError: if there is no such GPU, or not that many in a machine, or the machine is of another family.
    """
    if gpu not in GPUS:
        raise ValueError(f"--gpu {gpu!r} is unknown: expected one of {', '.join(GPUS)}")
    machines = GPUS[gpu]
    if count not in machines:
        raise ValueError(f"--gpu_count {count}: a worker has {', '.join(map(str, machines))} of {gpu}")
    family = machines[count].partition("-")[0]
    if machine_type and machine_type.partition("-")[0] != family:
        raise ValueError(f"--gpu_machine_type {machine_type!r}: {gpu} is in machines as {machines[count]!r}")
    return Accelerator(gpu, count, machine_type or machines[count])
