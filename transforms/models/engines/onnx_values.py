"""The ONNX graph in front of an ONNX network: uint8 images → the values that the network takes.

It is a graph of its own, and gives its values to the network in the memory of the device. The network's file stays as
it is. `onnx.compose` would put both into one graph, which takes the same time. For that, their names, operator sets, IR
versions and external data have to fit, and protobuf has to serialize the weights again, of 2 GiB at most.

The package `onnx` is optional, and imported only here.
"""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from transforms.models.image_interface import ImageInterface
from transforms.models.preprocessing import Preprocessing

PIXELS, VALUES = "pixels", "values"

# Every version of ONNX Runtime that the extra allows runs them, on CPUs and with CUDA.
_OPSET, _IR_VERSION = 13, 7

_TO_PLANES, _TO_PIXELS = (0, 3, 1, 2), (0, 2, 3, 1)


def graph(interface: ImageInterface, preprocessing: Preprocessing) -> bytes:
    """Returns a serialized ONNX model, PIXELS, uint8 (n, height, width, 3) → VALUES, as a network takes them.

    The values are those that NumPy computes in float32. If the network takes bytes, only the order of the channels in
    the preprocessing is used.

    ONNX Runtime should not optimize the graph, which would leave out the planes. The graph computes on planes, one for
    each channel, because ONNX Runtime takes seven times as long for interleaved channels.
    """
    steps = _Steps()
    is_bgr, are_bytes = preprocessing.channels == "bgr", interface.dtype == "uint8"
    if are_bytes and not is_bgr and not interface.channels_first:
        steps.add("Identity")
        return steps.serialized(interface.dtype)
    steps.add("Transpose", perm=_TO_PLANES)
    if is_bgr:
        steps.add("Gather", np.array([2, 1, 0]), axis=1)
    if not are_bytes:
        steps.add("Cast", to=onnx.TensorProto.FLOAT)
        if preprocessing.pixel_range == "0..1":
            steps.add("Div", np.float32(255))
        else:
            steps.add("Mul", _of_planes(preprocessing.scale))
            steps.add("Add", _of_planes(preprocessing.offset))
    if interface.dtype == "float16":
        steps.add("Cast", to=onnx.TensorProto.FLOAT16)
    if not interface.channels_first:
        steps.add("Transpose", perm=_TO_PIXELS)
    return steps.serialized(interface.dtype)


def _of_planes(triple: tuple[float, float, float]) -> Any:
    return np.array(triple, np.float32).reshape(3, 1, 1)


class _Steps:
    """A chain of ONNX nodes. Each takes what the one before it gives, and perhaps a constant."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, operator: str, constant: Any = None, **attributes: Any) -> None:
        inputs = [f"step{len(self._nodes)}"]
        if constant is not None:
            self._constants.append(numpy_helper.from_array(np.asarray(constant), f"constant{len(self._nodes)}"))
            inputs.append(self._constants[-1].name)
        self._nodes.append(helper.make_node(operator, inputs, [f"step{len(self._nodes) + 1}"], **attributes))

    def serialized(self, dtype: str) -> bytes:
        self._nodes[0].input[0], self._nodes[-1].output[0] = PIXELS, VALUES
        value_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        made = helper.make_graph(
            self._nodes,
            VALUES,
            [helper.make_tensor_value_info(PIXELS, onnx.TensorProto.UINT8, [None, None, None, 3])],
            [helper.make_tensor_value_info(VALUES, value_type, [None] * 4)],
            self._constants,
        )
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        serialized: bytes = model.SerializeToString()
        return serialized
