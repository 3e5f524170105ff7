"""The device that models run on: its name for the report, and the check that a requested GPU is present.

TensorFlow is imported only where the NVIDIA driver is installed. Without the driver it finds CPUs only.
"""

import ctypes
import functools

CPU = "CPU"
_DRIVER = "libcuda.so.1"


def has_driver() -> bool:
    """Returns whether the NVIDIA driver is installed."""
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    return True


@functools.cache
def has_gpu() -> bool:
    """Returns whether TensorFlow finds a GPU. It also makes TensorFlow take GPU memory as needed, not all at once."""
    if not has_driver():
        return False
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)  # other processes may use it too
    return bool(gpus)


def name() -> str:
    """Returns `CPU`, or `GPU` and the product name of the first GPU, which TensorFlow uses for a model."""
    if not has_gpu():
        return CPU
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    return f"GPU {details.get('device_name', '')}".rstrip()


def gpus() -> list[str | None]:
    """Returns TensorFlow's names of the GPUs."""
    if not has_gpu():
        return []
    import tensorflow as tf

    return [device.name for device in tf.config.list_logical_devices("GPU")]


def check_gpu(expected: bool) -> None:
    """Checks that TensorFlow has a GPU where one is expected. Otherwise the run would silently use the CPU.

    Raises:
      RuntimeError: if there is none. The message says what is missing and how to install it.
    """
    if not expected or name() != CPU:
        return
    import tensorflow as tf

    if not tf.test.is_built_with_cuda():
        reason = (
            f"this TensorFlow {tf.__version__} is built without CUDA; the image of this project's Dockerfile has one "
            "with CUDA"
        )
    elif not has_driver():
        reason = (
            f"there is no NVIDIA driver, {_DRIVER} cannot be loaded: on Dataflow, --preset dataflow-gpu installs it, "
            "and the image needs /usr/local/nvidia/lib64 in LD_LIBRARY_PATH"
        )
    else:
        reason = (
            "there is a driver, so either no GPU is attached, or CUDA's libraries are missing in the image or too new "
            "for that driver: see TensorFlow's log; pip install 'tensorflow[and-cuda]' installs the libraries"
        )
    devices = [device.name for device in tf.config.list_logical_devices()]
    raise RuntimeError(f"a GPU was asked for and TensorFlow finds none, only {devices=!r}: {reason}")
