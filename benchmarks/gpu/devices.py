"""The GPUs that TensorFlow sees. A process of its own asks, so that the GPU's memory is free for those that follow.

`python -m benchmarks.gpu.devices` prints them in JSON.
"""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.models import ROOT
from transforms.models.engines import onnx_runtime

GPU, CPU = "GPU", "CPU"
CPU_IN_PLACE = "CPU in place of a GPU"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_BUS_ID = re.compile(r"pci bus id: ([0-9a-f:.]+)", re.IGNORECASE)


class NoGpu(RuntimeError):
    """TensorFlow sees no GPU. The message is one line that says what is missing."""


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices to measure.

    Attributes:
      kind: GPU, or CPU to try the benchmark itself: a part of the CPU then takes a GPU's place.
      names: names of the devices.
      bus_ids: addresses of the devices on the PCI bus, as in `0000:00:04.0`.
      tensorflow: TensorFlow's version.
      tensor_float_32: whether TensorFlow multiplies float32 in TensorFloat-32, which GPUs from Ampere on have.
      driver: names, driver versions and memory by `nvidia-smi`; empty without it.
      runs_onnx: whether ONNX Runtime runs models on a device of the kind.
    """

    kind: str
    names: tuple[str, ...]
    bus_ids: tuple[str, ...]
    tensorflow: str
    tensor_float_32: bool
    driver: tuple[str, ...]
    runs_onnx: bool

    def variables(self, all_devices: bool = False) -> dict[str, str]:
        """Returns the environment variables of a process that has the first GPU alone, or all of them."""
        if self.kind == CPU or all_devices:
            return {}
        return {_VISIBLE: os.environ.get(_VISIBLE, "0").split(",")[0]}

    def flags(self, all_devices: bool = False) -> tuple[str, ...]:
        """Returns the flags of `benchmarks.gpu.ours` and `benchmarks.gpu.model_alone` for the same devices."""
        if self.kind == GPU:
            return ()
        return ("--cpus_in_place", str(len(self.names) if all_devices else 1))


def without_gpu() -> dict[str, str]:
    """Returns the environment variables of a process that has no GPU."""
    return {_VISIBLE: "-1"}


def seen(kind: str) -> Devices:
    """Returns the devices of a kind: GPU, or CPU for two parts of the CPU in place of GPUs.

    Raises:
      NoGpu: if the kind is GPU, and TensorFlow sees none.
    """
    command = [sys.executable, "-m", "benchmarks.gpu.devices"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        reason = (done.stderr.strip().splitlines() or ["it wrote no log"])[-1]
        raise NoGpu(f"TensorFlow does not start: {reason}")
    facts = json.loads(lines[-1])
    if kind == CPU:
        return Devices(CPU, (CPU_IN_PLACE,) * 2, (), facts["tensorflow"], False, (), onnx_runtime.is_installed())
    if not facts["names"]:
        raise NoGpu(_reason(facts["tensorflow"], facts["built_with_cuda"], _smi("name")))
    return Devices(
        GPU,
        tuple(facts["names"]),
        tuple(facts["bus_ids"]),
        facts["tensorflow"],
        facts["tensor_float_32"],
        tuple(_smi("name,driver_version,memory.total") or ()),
        onnx_runtime.has_gpu(),
    )


def _reason(tensorflow: str, built_with_cuda: bool, listed: Sequence[str] | None) -> str:
    none = f"none is visible to TensorFlow {tensorflow} here"
    if listed is None:
        return f"{none}, and there is no `nvidia-smi` either"
    if not listed:
        return f"{none}, and `nvidia-smi` lists none"
    names = ", ".join(listed)
    if not built_with_cuda:
        return f"{none}, because it is built without CUDA (`nvidia-smi` lists {names})"
    return (
        f"{none}, and `nvidia-smi` lists {names}: CUDA's libraries are missing, which `pip install --requirement "
        "deploy/requirements.in` installs, or do not fit the driver"
    )


def _smi(fields: str) -> list[str] | None:
    """Returns fields of each GPU of the machine, by `nvidia-smi`; None where it is not installed."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True)
    return [] if done.returncode else [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _print() -> None:
    import tensorflow as tf

    from transforms.models.engines import device

    has_gpu = device.has_gpu()
    gpus = tf.config.list_physical_devices("GPU") if has_gpu else []
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    facts = {
        "tensorflow": tf.__version__,
        "built_with_cuda": tf.test.is_built_with_cuda(),
        "tensor_float_32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "names": [each.get("device_name", "GPU") for each in details],
        "bus_ids": _bus_ids() if gpus else [],
    }
    print(json.dumps(facts))


def _bus_ids() -> list[str]:
    from tensorflow.python.client import device_lib

    described = (each.physical_device_desc for each in device_lib.list_local_devices() if each.device_type == GPU)
    return [match[1].lower() for text in described if (match := _BUS_ID.search(text))]


if __name__ == "__main__":
    _print()
