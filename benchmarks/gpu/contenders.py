"""Who does the whole job on a GPU: this project's command with decoder threads and with processes, and `tf.data`."""

import dataclasses

from benchmarks.contenders import OURS, PEER, ROOF, Contender
from benchmarks.gpu.devices import Devices
from benchmarks.small_images import MODES

PRECISIONS = ("float32", "float16")
PEER_NAME = "tf-data"
# Of one logical GPU with so little memory that two halvings are certain: with 128 images, the largest activation of
# EfficientNet-Lite0, float32 (128, 112, 112, 96), has 588 MiB.
MEMORY_LIMIT_MIB = 512
TOO_LARGE_BATCH = 256


@dataclasses.dataclass(frozen=True)
class OnGpu:
    """A contender, and what it gets.

    Attributes:
      contender: the contender.
      precision: `float32` or `float16`.
      all_devices: whether it has all GPUs, and not the first one alone.
      is_onnx: whether it has the network as ONNX.
    """

    contender: Contender
    precision: str
    all_devices: bool = False
    is_onnx: bool = False

    @property
    def name(self) -> str:
        """Its name in messages, and of its directory."""
        return f"{self.contender.name}-{self.precision}"


def whole_jobs(devices: Devices) -> list[OnGpu]:
    """Returns the contenders that do the whole job, the most important ones first, in case that time runs out."""
    jobs = [
        _ours(devices, "processes", "float32"),
        _peer("float32"),
        _ours(devices, "processes", "float16"),
        _peer("float16"),
        *([_ours(devices, "processes", "float32", is_onnx=True)] if devices.runs_onnx else []),
        _ours(devices, "threads", "float32"),
        _ours(devices, "threads", "float16"),
    ]
    if len(devices.names) > 1:
        jobs.append(_ours(devices, "processes", "float32", all_devices=True))
    return jobs


def _ours(devices: Devices, mode: str, precision: str, all_devices: bool = False, is_onnx: bool = False) -> OnGpu:
    flags = ("--decode_processes", MODES[mode], "--precision", precision)
    name = f"ours-{mode}{f'-{len(devices.names)}-gpus' if all_devices else ''}{'-onnx' if is_onnx else ''}"
    in_place = devices.flags(all_devices)
    contender = Contender(name, OURS, f"run_pipeline.py {' '.join(flags)}", "gpu.ours", (*in_place, *flags))
    return OnGpu(contender, precision, all_devices, is_onnx)


def _peer(precision: str) -> OnGpu:
    description = "tf.data, AUTOTUNE, the SavedModel"
    return OnGpu(Contender(PEER_NAME, PEER, description, "tf_data.py", ("--precision", precision)), precision)


def cpu() -> Contender:
    """Returns the command without a GPU, for vectors to compare with."""
    return Contender("cpu", OURS, "run_pipeline.py on the CPU", "ours")


def decode() -> Contender:
    """Returns a loop that reads and decodes: what the cores can feed at most."""
    return Contender("decode", ROOF, "this project's decoder, a process a core", "decode_loop", writes_vectors=False)


def out_of_memory(devices: Devices) -> Contender:
    """Returns the command with a GPU whose memory does not hold a batch of TOO_LARGE_BATCH images."""
    flags = (*devices.flags(), "--memory_limit", str(MEMORY_LIMIT_MIB), "--decode_processes", "0")
    return Contender("out-of-memory", OURS, "run_pipeline.py with too large a batch", "gpu.ours", flags)
