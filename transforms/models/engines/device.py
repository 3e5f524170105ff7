"""What a model runs on: found, said for the report, and checked where a GPU was asked for.

TensorFlow is asked only where there is a driver: without one it could name nothing but CPUs.
"""

import ctypes
import functools

CPU = "CPU"
_DRIVER = "libcuda.so.1"


@functools.cache
def has_gpu() -> bool:
    """Returns whether TensorFlow finds a GPU; from then on it takes memory there as it needs it, not all at once."""
    if not _has_driver():
        return False
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)  # it may not be the only process there
    return bool(gpus)


def name() -> str:
    """Returns `CPU`, or `GPU` and what its maker calls it: TensorFlow takes the first one for a model."""
    if not has_gpu():
        return CPU
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    return f"GPU {details.get('device_name', '')}".rstrip()


def check_gpu(expected: bool) -> None:
    """Makes sure that TensorFlow has a GPU where one was asked for: without it, it would embed on the CPU unasked.

    Raises:
      RuntimeError: if there is none, with what is missing and how to come by it.
    """
    if not expected or name() != CPU:
        return
    import tensorflow as tf

    if not tf.test.is_built_with_cuda():
        reason = (
            f"TensorFlow {tf.__version__} here is built without CUDA; in the image of this project's Dockerfile it is "
            "built with it"
        )
    elif not _has_driver():
        reason = (
            f"there is no NVIDIA driver, {_DRIVER} cannot be loaded: on Dataflow --preset dataflow-gpu has it "
            "installed, and the image has to have /usr/local/nvidia/lib64 in LD_LIBRARY_PATH"
        )
    else:
        reason = (
            "there is a driver, so either no GPU is attached, or CUDA's libraries are missing in the image or too new "
            "for that driver: TensorFlow's log says which, and pip install 'tensorflow[and-cuda]' brings the libraries"
        )
    raise RuntimeError(f"a GPU was asked for and TensorFlow finds none, only devices={_devices()!r}: {reason}")


def _has_driver() -> bool:
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    return True


def _devices() -> list[str]:
    import tensorflow as tf

    return [device.name for device in tf.config.list_logical_devices()]
