"""Runs ONNX models with ONNX Runtime: on a GPU if the package supports it, and on CPUs if OpenVINO cannot run them.

The package is optional, as is `onnx`. They are imported only where they run a model, or check OpenVINO's vectors.
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

GPU, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_DEVICES = {GPU: "cuda", CPU: "cpu"}
_DTYPES = {"float": "float32", "double": "float64"}


def is_installed() -> bool:
    """Returns whether ONNX Runtime and `onnx` are installed, without importing them."""
    return all(importlib.util.find_spec(package) for package in ("onnxruntime", "onnx"))


@functools.cache
def has_gpu() -> bool:
    """Returns whether ONNX Runtime can run a model on a GPU of this machine."""
    if not (is_installed() and device.has_driver()):
        return False
    import onnxruntime

    return GPU in onnxruntime.get_available_providers()


def check_gpu(model_format: str) -> None:
    """Checks that a portable model runs on a GPU. Otherwise it would silently run on the CPU.

    Raises:
      RuntimeError: if not. The message says what is missing.
    """
    if model_format != "onnx":
        raise RuntimeError(f"a GPU was asked for, and {model_format} models run on CPUs only: give a model in ONNX")
    if not has_gpu():
        raise RuntimeError(
            "a GPU was asked for, and ONNX models need ONNX Runtime for it: install onnx, and onnxruntime-gpu in place "
            "of onnxruntime, in the image of the workers"
        )


def open_session(file: Path) -> Any:
    """Returns the session of an ONNX file, on the GPU where there is one. Each call uses one thread of the CPU.

    Raises:
      ValueError: if ONNX Runtime does not take the model, or the GPU.
    """
    return _open(str(file), optimized=True)


def _open(model: str | bytes, *, optimized: bool) -> Any:
    """Returns the session of an ONNX file or a serialized model. See `open_session`."""
    import onnxruntime

    if has_gpu():
        onnxruntime.preload_dlls()  # CUDA of the packages that TensorFlow brings along
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors, which are raised too
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    names = providers()
    try:
        session = onnxruntime.InferenceSession(model, options, providers=names)
    except Exception as error:  # the class differs with the reason
        named = repr(model) if isinstance(model, str) else "the graph in front of the network"
        raise ValueError(f"ONNX Runtime does not take {named}: {one_line(error)}") from error
    if names[0] not in session.get_providers():  # it would only log that, and run on the CPU
        raise ValueError(
            f"onnxruntime-gpu {onnxruntime.__version__} cannot use the GPU: expected the CUDA and cuDNN that it was "
            "built for; the image of this project's Dockerfile has them"
        )
    return session


def providers() -> list[str]:
    """Returns the execution providers of a session, the preferred one first."""
    return [GPU, CPU] if has_gpu() else [CPU]


def signature(session: Any) -> Signature:
    return Signature(
        *({port.name: _info(port) for port in ports} for ports in (session.get_inputs(), session.get_outputs()))
    )


def compiled(session: Any, interface: ImageInterface, preprocessing: Preprocessing = TF_HUB) -> Run:
    """Returns a function, uint8 (n, height, width, 3) → float32 (n, dimension). Thread-safe.

    The function raises InferenceError for ONNX Runtime's errors, and InterfaceError if the output is not one vector for
    each image.
    """
    from transforms.models.engines import onnx_values

    name = session.get_inputs()[0].name
    values = _open(onnx_values.graph(interface, preprocessing), optimized=False)
    device_type = _DEVICES[values.get_providers()[0]]

    def run(pixels: Pixels) -> Vectors:
        try:
            # Pixels go to the device as bytes. The values stay there: the call waits until they are complete.
            binding = values.io_binding()
            binding.bind_cpu_input(onnx_values.PIXELS, np.ascontiguousarray(pixels))
            binding.bind_output(onnx_values.VALUES, device_type)
            values.run_with_iobinding(binding)
            (output,) = session.run_with_ort_values([interface.output], {name: binding.get_outputs()[0]})
            vectors = output.numpy()
        except Exception as error:  # its classes have no base of their own
            is_memory = isinstance(error, MemoryError) or "Failed to allocate memory" in str(error)
            kind = OutOfDeviceMemory if is_memory else InferenceError
            raise kind(f"{type(error).__name__}: {one_line(error)}") from error
        columns = dimension(vectors.shape, len(pixels), interface.output)
        return np.asarray(vectors, np.float32).reshape(len(pixels), columns)

    return run


def _info(port: Any) -> TensorInfo:
    name = port.type.removeprefix("tensor(").removesuffix(")") if port.type.startswith("tensor(") else port.type
    shape: Sequence[Any] = port.shape
    return TensorInfo(_DTYPES.get(name, name), tuple(size if isinstance(size, int) else None for size in shape))
