"""Runs a model on the CPU with OpenVINO. Some networks take two thirds of TensorFlow's time, with the same vectors.

TensorFlow runs models on every other device, and every graph that OpenVINO cannot run.
"""

import functools
import math
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from transforms.models import catalog
from transforms.models.engines.fixed_batches import InferenceError, Pixels, Vectors

try:
    import openvino
except ImportError:  # no wheel for this machine
    openvino = None

# A large network is fastest with few images per call: Inception ResNet V2 (54 million weights) takes a tenth less time
# with one than with eight. For a small network the overhead of a call counts: the bundled model is faster with eight
# images per call than with 1, 2 or 16.
_SMALL_NETWORK_WEIGHTS = 10_000_000
_SMALL_NETWORK_IMAGES_PER_CALL = 8

Run = Callable[[Pixels], Vectors]

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


@functools.cache
def core() -> "openvino.Core":
    """Returns the one Core of this process.

    When the last Core is deleted, its plugin for CPUs is unloaded. That unmaps the stack of signal handlers in the
    thread that used the plugin first. If another thread deletes it, the next Ctrl-C ends the process.
    """
    return openvino.Core()


def precisions() -> list[str]:
    """Returns the precisions that this machine's CPU supports, [] where OpenVINO is not installed."""
    if openvino is None:
        return []
    has_bfloat16 = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["float32", "bfloat16"] if has_bfloat16 else ["float32"]


def bundled(name: str, image_size: tuple[int, int]) -> "openvino.Model":
    """Returns the network of a bundled model, without TensorFlow. `image_size` is (height, width) in pixels."""
    from transforms.models.networks import efficientnet_lite_openvino

    return {"efficientnet_lite0": efficientnet_lite_openvino.model}[name](catalog.weights(name), image_size)


def read(graph: bytes) -> "openvino.Model":
    """Returns the OpenVINO network of a serialized frozen GraphDef: uint8 images → float32 vectors.

    Raises:
      ValueError: if the graph has several inputs or outputs.
      Exception: OpenVINO's, if it cannot read the graph.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "model.pb")
        path.write_bytes(graph)
        network = core().read_model(path)
    inputs, outputs = len(network.inputs), len(network.outputs)
    if (inputs, outputs) != (1, 1):
        raise ValueError(f"the graph has {inputs} inputs and {outputs} outputs: expected one each")
    return network


def identity() -> str:
    """Returns OpenVINO's version and the name of the processor, which together decide which kernels run."""
    return f"openvino {openvino.__version__} {core().get_property('CPU', 'FULL_DEVICE_NAME')}"


def reason(error: Exception) -> str:
    """Returns the last line of an error of OpenVINO. The lines before it have places in OpenVINO's source."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].removeprefix("-- ")


def images_per_call(network: "openvino.Model") -> int:
    """Returns the number of images per call with the highest throughput."""
    weights = sum(
        math.prod(node.get_output_shape(0)) for node in network.get_ops() if node.get_type_name() == "Constant"
    )
    return _SMALL_NETWORK_IMAGES_PER_CALL if weights <= _SMALL_NETWORK_WEIGHTS else 1


def compile_network(
    network: "openvino.Model", image_size: tuple[int, int], batch_size: int, precision: str, calls_at_once: int
) -> Run:
    """Returns a function, uint8 (batch_size, height, width, 3) → float32 (batch_size, dimension).

    Args:
      network: from `bundled` or `read`; it takes images of that shape.
      image_size: (height, width) in pixels.
      batch_size: the exact number of images per call.
      precision: one of `precisions()`.
      calls_at_once: threads that call the function at a time. Each call uses one thread of the CPU.

    The function raises InferenceError for OpenVINO's errors.

    Raises:
      ValueError: if shapes inside the network depend on the pixels.
      Exception: OpenVINO's, if it cannot compile the network.
    """
    network = network.clone()
    network.reshape([batch_size, *image_size, 3])
    if network.is_dynamic():
        # Tried with OpenVINO 2026.4: after an error over such shapes, the compiled network fails on every later batch,
        # and if it has one stream it returns the vectors of an earlier batch without an error.
        raise ValueError("shapes inside the network depend on the pixels: expected one shape per tensor")
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": str(calls_at_once),
        "INFERENCE_NUM_THREADS": str(calls_at_once),
        "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
    }
    on_cpu = core().compile_model(network, "CPU", settings)
    requests = threading.local()

    def run(pixels: Pixels) -> Vectors:
        request = getattr(requests, "request", None)
        if request is None:
            request = requests.request = on_cpu.create_infer_request()
        # A tensor is a view of an array, which must be contiguous, writable, and referred to until the end.
        pixels = np.require(pixels, np.uint8, ["C_CONTIGUOUS", "WRITEABLE"])
        try:
            # `infer([pixels])` takes 50 µs longer, because it looks up the input and makes a dict of the output.
            request.set_input_tensor(openvino.Tensor(pixels, shared_memory=True))
            request.infer()
        except RuntimeError as error:
            raise InferenceError(f"{type(error).__name__}: {reason(error)}") from error
        return np.array(request.get_output_tensor(0).data, np.float32)

    return run
