"""Runs ONNX models with ONNX Runtime: on a GPU if the package supports it, and on CPUs if OpenVINO cannot run them.

The package is optional. It is imported only where it runs a model, or checks OpenVINO's vectors.
"""

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transforms.elements.one_line import one_line
from transforms.models.engines import device
from transforms.models.engines.fixed_batches import InferenceError, OutOfDeviceMemory, Pixels, Vectors
from transforms.models.engines.openvino_engine import Run
from transforms.models.image_interface import ImageInterface, dimension
from transforms.models.preprocessing import TF_HUB, Preprocessing
from transforms.models.tensors import Signature, TensorInfo

EXTRA = "pip install 'beam-image-embeddings[onnx]'"

_GPU, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_DTYPES = {"float": "float32", "double": "float64"}


def is_installed() -> bool:
    """Returns whether ONNX Runtime is installed, without importing it."""
    return importlib.util.find_spec("onnxruntime") is not None


@functools.cache
def has_gpu() -> bool:
    """Returns whether ONNX Runtime can run a model on a GPU of this machine."""
    if not (is_installed() and device.has_driver()):
        return False
    import onnxruntime

    return _GPU in onnxruntime.get_available_providers()


def check_gpu(model_format: str) -> None:
    """Checks that a portable model runs on a GPU. Otherwise it would silently run on the CPU.

    Raises:
      RuntimeError: if not. The message says what is missing.
    """
    if model_format != "onnx":
        raise RuntimeError(f"a GPU was asked for, and {model_format} models run on CPUs only: give a model in ONNX")
    if not has_gpu():
        raise RuntimeError(
            "a GPU was asked for, and ONNX models need ONNX Runtime for it: install onnxruntime-gpu, in place of "
            "onnxruntime, in the image of the workers"
        )


def open_session(file: Path) -> Any:
    """Returns the session of an ONNX file, on the GPU where there is one. Each call uses one thread of the CPU.

    Raises:
      ValueError: if ONNX Runtime does not take the model, or the GPU.
    """
    import onnxruntime

    if has_gpu():
        onnxruntime.preload_dlls()  # CUDA of the packages that TensorFlow brings along
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors, which are raised too
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=[_GPU, _CPU] if has_gpu() else [_CPU])
    except Exception as error:  # the class differs with the reason
        raise ValueError(f"ONNX Runtime does not take {str(file)!r}: {one_line(error)}") from error
    if has_gpu() and _GPU not in session.get_providers():  # it would only log that, and run on the CPU
        raise ValueError(
            f"onnxruntime-gpu {onnxruntime.__version__} cannot use the GPU: expected the CUDA and cuDNN that it was "
            "built for; the image of this project's Dockerfile has them"
        )
    return session


def signature(session: Any) -> Signature:
    return Signature(
        *({port.name: _info(port) for port in ports} for ports in (session.get_inputs(), session.get_outputs()))
    )


def compiled(session: Any, interface: ImageInterface, preprocessing: Preprocessing = TF_HUB) -> Run:
    """Returns a function, uint8 (n, height, width, 3) → float32 (n, dimension). Thread-safe.

    The function raises InferenceError for ONNX Runtime's errors, and InterfaceError if the output is not one vector for
    each image.
    """
    name = session.get_inputs()[0].name

    def run(pixels: Pixels) -> Vectors:
        try:
            (output,) = session.run([interface.output], {name: _values(pixels, interface, preprocessing)})
        except Exception as error:  # its classes have no base of their own
            is_memory = isinstance(error, MemoryError) or "Failed to allocate memory" in str(error)
            kind = OutOfDeviceMemory if is_memory else InferenceError
            raise kind(f"{type(error).__name__}: {one_line(error)}") from error
        columns = dimension(output.shape, len(pixels), interface.output)
        return np.asarray(output, np.float32).reshape(len(pixels), columns)

    return run


def _values(pixels: Pixels, interface: ImageInterface, preprocessing: Preprocessing) -> Any:
    values: Any = pixels[..., ::-1] if preprocessing.channels == "bgr" else pixels
    if interface.dtype != "uint8":
        if preprocessing.pixel_range == "0..1":
            values = values / np.float32(255)
        else:
            values = values * np.array(preprocessing.scale, np.float32) + np.array(preprocessing.offset, np.float32)
        values = values.astype(interface.dtype)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if interface.channels_first else values)


def _info(port: Any) -> TensorInfo:
    name = port.type.removeprefix("tensor(").removesuffix(")")
    shape: Sequence[Any] = port.shape
    return TensorInfo(_DTYPES.get(name, name), tuple(size if isinstance(size, int) else None for size in shape))
