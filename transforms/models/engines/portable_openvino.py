"""Portable models in OpenVINO: a file → its network → the same network from uint8 images to float32 vectors."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transforms.models.engines import openvino_engine
from transforms.models.image_interface import ImageInterface, dimension
from transforms.models.portable import PortableModel
from transforms.models.preprocessing import TF_HUB, Preprocessing
from transforms.models.tensors import Signature, TensorInfo

if TYPE_CHECKING:
    import openvino

_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64", "u8": "uint8"}
# The number of images to compute an output's shape for, where the network takes any number.
_TRIAL_IMAGES = 2
# A rescaling has at most a conversion, a transposition, a sum and a product.
_LAST_NODE_OF_A_RESCALING = 5


class NotRunnable(ValueError):
    """OpenVINO cannot run a model. The message has its reason, with the names of operations that it lacks."""


def read(model: PortableModel) -> "openvino.Model":
    """Returns the network of a model as its file has it.

    Raises:
      NotRunnable: if OpenVINO is not installed, or does not take the file.
    """
    if openvino_engine.openvino is None:
        raise NotRunnable("OpenVINO is not installed")
    from openvino.frontend import FrontEndManager

    try:
        if model.format != "openvino":
            frontend = FrontEndManager().load_by_framework(model.format)
            return frontend.convert(frontend.load(str(model.main)))
        if not _is_xml(model.main):
            raise ValueError(f"{str(model.main)!r} is not XML")
        return openvino_engine.core().read_model(model.main, model.main.with_suffix(".bin"))
    except Exception as error:  # each frontend of OpenVINO has errors of its own
        raise NotRunnable(openvino_engine.reason(error)) from error


def _is_xml(file: Path) -> bool:
    """Returns whether a file begins as XML does. For other content, OpenVINO would look for a format that fits."""
    with file.open("rb") as content:
        return content.read(1024).lstrip().startswith(b"<")


def signature(network: "openvino.Model") -> Signature:
    """Returns the inputs and outputs of a network. An output without a name has its node's."""
    return Signature(
        {_name(port): _info(port) for port in network.inputs}, {_name(port): _info(port) for port in network.outputs}
    )


def adapted(
    network: "openvino.Model",
    interface: ImageInterface,
    image_size: tuple[int, int],
    preprocessing: Preprocessing = TF_HUB,
) -> "openvino.Model":
    """Returns the network as uint8 (n, height, width, 3) → float32 (n, dimension). `network` does not change.

    If the network takes bytes, only the order of the channels in the preprocessing is used.

    Raises:
      NotRunnable: if OpenVINO does not take the network for that size.
      InterfaceError: if the output is not one vector for each image.
    """
    from openvino import opset8 as ops

    network = network.clone()
    batch_size = interface.batch_size or -1
    try:
        network.reshape(list(interface.shape(image_size, batch_size)))
        dimension(
            _output_shape(network, interface, image_size), interface.batch_size or _TRIAL_IMAGES, interface.output
        )
    except RuntimeError as error:
        raise NotRunnable(openvino_engine.reason(error)) from error
    images = ops.parameter([batch_size, *image_size, 3], np.uint8, name="images")
    values = images
    if preprocessing.channels == "bgr":
        values = ops.gather(values, np.array([2, 1, 0]), np.array(3))
    if interface.dtype != "uint8":
        values = ops.convert(values, np.float32)
        if preprocessing.pixel_range == "0..1":
            values = ops.divide(values, np.float32(255))
        else:
            scale, offset = (np.array(triple, np.float32) for triple in (preprocessing.scale, preprocessing.offset))
            values = ops.add(ops.multiply(values, scale), offset)
    if interface.channels_first:
        values = ops.transpose(values, np.array([0, 3, 1, 2]))
    if interface.dtype == "float16":
        values = ops.convert(values, np.float16)
    for target in network.input().get_target_inputs():
        target.replace_source_output(values.output(0))
    vectors = _port(network, interface.output).get_node().input_value(0)
    flat = ops.reshape(vectors, np.array([0, -1]), special_zero=True)
    return openvino_engine.openvino.Model([ops.convert(flat, np.float32)], [images])


def parameters(network: "openvino.Model") -> int:
    """Returns the number of scalars in the weights of a network: all its constants except shapes."""
    constants = (node.output(0) for node in network.get_ops() if node.get_type_name() == "Constant")
    return sum(
        int(np.prod(list(constant.get_shape())))
        for constant in constants
        if constant.get_element_type().is_real() or constant.get_element_type().bitwidth <= 8
    )


def first_factor(network: "openvino.Model") -> float | None:
    """Returns the constant by which a network first multiplies its input, the largest one of several channels.

    Returns:
      None if it begins otherwise. Conversions, transpositions and sums with constants may come before.
    """
    port = network.input()
    for _ in range(_LAST_NODE_OF_A_RESCALING):
        consumers = list(port.get_target_inputs())
        if len(consumers) != 1:
            return None
        node = consumers[0].get_node()
        kind = node.get_type_name()
        others = [
            source.get_node() for index, source in enumerate(node.input_values()) if index != consumers[0].get_index()
        ]
        constants = [other.get_data() for other in others if other.get_type_name() == "Constant"]
        if len(constants) != len(others) or node.get_output_size() != 1:
            return None
        if kind == "Multiply" or (kind == "Divide" and consumers[0].get_index() == 0):
            (constant,) = constants
            sizes = np.abs(np.asarray(constant, np.float64))
            factor = sizes.max() if kind == "Multiply" else 1 / sizes.min() if sizes.min() else 0.0
            return float(factor) if factor and np.isfinite(factor) else None
        if kind not in ("Convert", "Transpose", "Subtract", "Add"):
            return None
        port = node.output(0)
    return None


def _output_shape(network: "openvino.Model", interface: ImageInterface, image_size: tuple[int, int]) -> list[int]:
    if interface.batch_size is None:
        network = network.clone()
        network.reshape(list(interface.shape(image_size, _TRIAL_IMAGES)))
    shape = _port(network, interface.output).get_partial_shape()
    if shape.is_dynamic:
        raise NotRunnable(f"the shape of the output {interface.output!r} depends on the pixels")
    return list(shape.to_shape())


def _port(network: "openvino.Model", name: str) -> "openvino.Output":
    return next(port for port in network.outputs if _name(port) == name)


def _name(port: "openvino.Output") -> str:
    return port.get_any_name() if port.get_names() else port.get_node().get_friendly_name()


def _info(port: "openvino.Output") -> TensorInfo:
    name = port.get_element_type().get_type_name()
    shape = port.get_partial_shape()
    sizes = tuple(size.get_length() if size.is_static else None for size in shape) if shape.rank.is_static else None
    return TensorInfo(_DTYPES.get(name, name), sizes)
