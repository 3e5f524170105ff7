"""A model on the CPU, run by OpenVINO: the vectors that TensorFlow gives, in two thirds of the time for some networks.

TensorFlow's own kernels stay what every other device, and every graph that OpenVINO does not take, is run with.
"""

import math
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from transforms.models import catalog
from transforms.models.engines.fixed_batches import Pixels, Vectors

try:
    import openvino
except ImportError:  # no wheel for this machine
    openvino = None

# Images a call. A large network is the faster the fewer they are: with the 54 million weights of Inception ResNet V2,
# one at a time is a tenth faster than eight. A call of a small one is so short that what surrounds it shows: with the
# bundled model eight are faster than one and two, and than 16.
_SMALL_WEIGHTS = 10_000_000
_IMAGES_A_CALL_OF_A_SMALL_ONE = 8

Run = Callable[[Pixels], Vectors]

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def precisions() -> list[str]:
    """Returns the precisions in which this machine's CPU computes, [] where OpenVINO is not there."""
    if openvino is None:
        return []
    has_bfloat16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["float32", "bfloat16"] if has_bfloat16 else ["float32"]


def bundled(name: str, image_size: tuple[int, int]) -> "openvino.Model":
    """Returns a bundled model, without TensorFlow."""
    from transforms.models.networks import efficientnet_lite_openvino

    return {"efficientnet_lite0": efficientnet_lite_openvino.model}[name](catalog.weights(name), image_size)


def read(graph: bytes) -> "openvino.Model":
    """Returns a frozen GraphDef, serialized, as OpenVINO has it: uint8 images in, float32 vectors out.

    Raises:
      Exception: OpenVINO's, if it does not take the graph.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "model.pb")
        path.write_bytes(graph)
        network = openvino.Core().read_model(path)
    inputs, outputs = len(network.inputs), len(network.outputs)
    if (inputs, outputs) != (1, 1):
        raise ValueError(f"the graph has {inputs} inputs and {outputs} outputs: expected one each")
    return network


def identity() -> str:
    """Returns what decides which kernels run: OpenVINO's version and the processor."""
    return f"openvino {openvino.__version__} {openvino.Core().get_property('CPU', 'FULL_DEVICE_NAME')}"


def images_a_call(network: "openvino.Model") -> int:
    """Returns with how many images a call is the fastest."""
    weights = sum(
        math.prod(node.get_output_shape(0)) for node in network.get_ops() if node.get_type_name() == "Constant"
    )
    return _IMAGES_A_CALL_OF_A_SMALL_ONE if weights <= _SMALL_WEIGHTS else 1


def compiled(
    network: "openvino.Model", image_size: tuple[int, int], batch_size: int, precision: str, calls_at_once: int
) -> Run:
    """Returns a function, uint8 (batch_size, height, width, 3) → float32 (batch_size, dimension).

    Args:
      network: from `bundled` or `read`; it takes that shape.
      image_size: (height, width) in pixels; batch_size: images a call, just so many.
      precision: one of `precisions()`.
      calls_at_once: threads that call it at a time; each call takes one thread of the CPU.

    Raises:
      Exception: OpenVINO's, if it cannot compile it.
    """
    network = network.clone()
    network.reshape([batch_size, *image_size, 3])
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": str(calls_at_once),
        "INFERENCE_NUM_THREADS": str(calls_at_once),
        "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
    }
    on_cpu = openvino.Core().compile_model(network, "CPU", settings)
    requests = threading.local()

    def run(pixels: Pixels) -> Vectors:
        request = getattr(requests, "request", None)
        if request is None:
            request = requests.request = on_cpu.create_infer_request()
        request.infer([pixels], share_inputs=True)
        return np.array(request.get_output_tensor(0).data, np.float32)

    return run
