"""The CPU in place of GPUs, to try the benchmark itself on a machine without one. Its numbers say nothing of a GPU.

What needs a GPU is replaced: the list of devices, and an out-of-memory, which a CPU does not have. TensorFlow runs the
model, and computes in float32 whatever the precision is, because its float16 is for GPUs alone.
"""

import functools
from types import ModuleType
from typing import Any

from benchmarks import ours
from benchmarks.gpu.devices import CPU_IN_PLACE
from transforms.models.engines import device, onnx_runtime

# Of EfficientNet-Lite0's largest activation, float32 (112, 112, 96).
_MIB_PER_IMAGE = 4.6


def use_cpus(number: int) -> None:
    """Makes this process take so many logical CPU devices of TensorFlow for GPUs, and the CPU for ONNX Runtime's."""

    @functools.cache
    def has_gpu() -> bool:
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * number)
        return True

    def gpus() -> list[str | None]:
        has_gpu()
        return [f"/device:CPU:{index}" for index in range(number)]

    device.has_gpu, device.gpus, device.name = has_gpu, gpus, lambda: CPU_IN_PLACE
    onnx_runtime.has_gpu, onnx_runtime.providers = lambda: True, lambda: [onnx_runtime.CPU]


def limit_memory(mib: int) -> None:
    """Makes TensorFlow's error for too little memory appear in calls that would need more than so many MiB."""

    def replace(module: ModuleType) -> None:
        freeze = module.function

        def frozen(function: Any) -> Any:
            import tensorflow as tf

            run = freeze(function)

            def limited(pixels: Any) -> Any:
                if len(pixels) * _MIB_PER_IMAGE > mib:
                    raise tf.errors.ResourceExhaustedError(None, None, f"OOM: {len(pixels)} images, in place of a GPU")
                return run(pixels)

            return limited

        module.function = frozen

    ours.after_import("transforms.models.engines.frozen", replace)
