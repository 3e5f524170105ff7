"""Presets: one table of runners, workers, containers and batch sizes. A flag on the command line wins over it.

It imports no Beam, because the help of the flags names the presets.
"""

import dataclasses
import re
from pathlib import Path

from transforms.concurrent.cores import usable_cores
from transforms.models.engines.fixed_batches import BATCH_SIZE_DEFAULT

# Named explicitly: Beam's `DirectRunner` chooses among several runners, and some of them ignore the flags below.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"
DATAFLOW = "DataflowRunner"

_SETUP = Path(__file__).parents[2] / "setup.py"
# Workers without an image of their own install this package from it. A package that pip installed has no setup.py.
SETUP_FILE = str(_SETUP) if _SETUP.is_file() else None

ONE_PROCESS = "no_use_multiple_sdk_containers"
VCPUS = "one for each vCPU"
GPU_DEFAULT = "nvidia-l4"
CORES = "cores"  # a number of decoder processes: one for each core of a worker

# None leaves a flag at the default of Beam or Dataflow. All flags but the last three are Beam's.
# fmt: off
PRESETS = ("local", "flink", "dataflow", "dataflow-gpu")
_TABLE: dict[str, tuple[str | int | None, ...]] = {
    #                                    local              flink              dataflow         dataflow-gpu
    "runner":                           (LOCAL_RUNNER,      "FlinkRunner",     DATAFLOW,        DATAFLOW),
    # In one process all threads share one model, and decoding and inference release the GIL. Beam warns about
    # this mode, but runs one bundle per worker at once all the same. "multi_threading" sends each element through gRPC.
    "direct_running_mode":              ("in_memory",       None,              None,            None),
    # Two at least: while one waits for a device, the other one decodes the next batch.
    "direct_num_workers":               (max(2, usable_cores()), None,         None,            None),
    # Each TaskManager has a worker pool beside it: python -m apache_beam.runners.worker.worker_pool_main
    "environment_type":                 (None,              "EXTERNAL",        None,            None),
    "environment_config":               (None,              "localhost:50000", None,            None),
    # A worker keeps its model between the stages of a job: docs/flink.md.
    "environment_cache_millis":         (None,              60_000,            None,            None),
    "parallelism":                      (None,              2,                 None,            None),
    "machine_type":                     (None,              None,              "n1-standard-4", "n1-standard-4"),
    "disk_size_gb":                     (None,              None,              50,              50),
    "max_num_workers":                  (None,              None,              10,              10),
    # Plain workers install this package when they start. The image of GPU workers has it already.
    "setup_file":                       (None,              None,              SETUP_FILE,      None),
    "sdk_location":                     (None,              None,              None,            "container"),
    # A worker is one process, whose threads share one model on the GPU.
    "experiments":                      (None,              None,              None,            ONE_PROCESS),
    "number_of_worker_harness_threads": (None,              None,              None,            VCPUS),
    "batch_size":                       (BATCH_SIZE_DEFAULT, BATCH_SIZE_DEFAULT, BATCH_SIZE_DEFAULT, 64),
    # Many vCPUs feed a GPU. Several threads decode little more than one, because they share the GIL.
    "decode_processes":                 (0,                 0,                 0,               CORES),
    "gpu":                              (None,              None,              None,            GPU_DEFAULT),
}
# fmt: on
OWN = ("batch_size", "decode_processes", "gpu")


def settings(preset: str) -> dict[str, str | int]:
    """Returns the flags that a preset sets, with their values."""
    column = PRESETS.index(preset)
    return {flag: value for flag, row in _TABLE.items() if (value := row[column]) is not None}


def batch_size(preset: str) -> int:
    """Returns the number of images per call of the model in one preset."""
    return int(settings(preset)["batch_size"])


def decode_processes(preset: str) -> str:
    """Returns the number of decoder processes of a worker in one preset, or CORES."""
    return str(settings(preset)["decode_processes"])


@dataclasses.dataclass(frozen=True)
class Shape:
    """The vCPUs of a machine type, and its memory in GB."""

    vcpus: int
    memory_gb: float


# GB per vCPU of Compute Engine's predefined machine types:
# https://cloud.google.com/compute/docs/general-purpose-machines and …/accelerator-optimized-machines
_GB_PER_VCPU = {
    "n1-standard": 3.75, "n1-highmem": 6.5, "n1-highcpu": 0.9,
    "n2-standard": 4, "n2-highmem": 8, "n2-highcpu": 1,
    "n2d-standard": 4, "n2d-highmem": 8, "n2d-highcpu": 1,
    "e2-standard": 4, "e2-highmem": 8, "e2-highcpu": 1,
    "g2-standard": 4,
}  # fmt: skip
# The name of such a machine type ends in its number of GPUs. These are the numbers for one GPU.
_PER_GPU = {"a2-highgpu": Shape(12, 85), "a2-ultragpu": Shape(12, 170)}


def shape(machine_type: str) -> Shape:
    """Returns the vCPUs and the memory of a machine type.

    Raises:
      ValueError: if this project does not know the type.
    """
    parsed = re.fullmatch(r"([a-z0-9]+-[a-z]+)-(\d+)(g?)", machine_type)
    if parsed and parsed[1] in _GB_PER_VCPU and not parsed[3]:
        return Shape(int(parsed[2]), int(parsed[2]) * _GB_PER_VCPU[parsed[1]])
    if parsed and parsed[1] in _PER_GPU and parsed[3]:
        one, gpus = _PER_GPU[parsed[1]], int(parsed[2])
        return Shape(one.vcpus * gpus, one.memory_gb * gpus)
    raise ValueError(
        f"machine type {machine_type!r} is unknown here: expected {', '.join((*_GB_PER_VCPU, *_PER_GPU))}, and its size"
    )


# GPU → GPUs per worker → a machine type for them: https://cloud.google.com/compute/docs/gpus
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
    """The GPUs of a worker, and its machine type."""

    gpu: str
    count: int
    machine_type: str

    @property
    def hint(self) -> str:
        """The GPUs as a resource hint of Dataflow: https://cloud.google.com/dataflow/docs/guides/right-fitting.

        The hint names the machine type, so that --machine_type applies only to workers without a GPU. A G2 machine
        always has an L4.
        """
        return f"type:{self.gpu};count:{self.count};machine_type:{self.machine_type};install-nvidia-driver"


def accelerator(gpu: str, count: int, machine_type: str | None) -> Accelerator:
    """Returns the GPUs of a worker, in a machine of the named type or of this project's choice.

    Raises:
      ValueError: if there is no such GPU, if no machine has this many, or if the machine is of another family.
    """
    if gpu not in GPUS:
        raise ValueError(f"--gpu {gpu!r} is unknown: expected one of {', '.join(GPUS)}")
    machines = GPUS[gpu]
    if count not in machines:
        raise ValueError(f"--gpu_count {count}: a worker can have {', '.join(map(str, machines))} of {gpu}")
    family = machines[count].partition("-")[0]
    if machine_type and machine_type.partition("-")[0] != family:
        raise ValueError(
            f"--gpu_machine_type {machine_type!r}: expected a machine with {gpu}, as in {machines[count]!r}"
        )
    return Accelerator(gpu, count, machine_type or machines[count])
