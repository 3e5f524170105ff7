"""ONNX models for tests: small ones, the bundled network with its own weights, and the `onnx` package's topologies."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
from onnx import TensorProto, helper, numpy_helper

from transforms.models import catalog
from transforms.models.networks.efficientnet_lite_openvino import _folded
from transforms.models.networks.efficientnet_lite_stages import blocks
from transforms.models.preprocessing import Preprocessing

FLOAT, FLOAT16, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8
_DTYPES = {FLOAT: np.float32, FLOAT16: np.float16}

LIGHT = ("resnet50", "inception_v1", "inception_v2", "densenet121", "shufflenet", "squeezenet")
_LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"

DIMENSION = 5

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation


def write(
    file: Path,
    *,
    dtype: int = FLOAT,
    shape: Sequence[int | str] = ("n", 3, "h", "w"),
    outputs: Sequence[Sequence[int | str]] = (("n", DIMENSION),),
    external: str | None = None,
    operator: str | None = None,
    **attributes: object,
) -> Path:
    """Writes a model that maps the means of the colours, by `kernel`, to vectors.

    Args:
      file: to write.
      dtype: of the images, and of the vectors unless it is UINT8.
      shape: of the images, with three channels in the second or the last axis.
      outputs: the shapes of the outputs `vectors`, `output1`, …: of rank 2, 4, or 3 with a vector for each pixel.
      external: the location of the kernel; None for inside the file.
      operator: with its domain, as in `ai.onnx.ml.Normalizer`: what the vectors pass through.
      attributes: of the operator.
    """
    floats = FLOAT if dtype == UINT8 else dtype
    is_first = shape[1] == 3
    nodes, values = [], "images"
    if dtype == UINT8:
        nodes.append(helper.make_node("Cast", [values], ["floats"], to=FLOAT))
        values = "floats"
    if not is_first:
        nodes.append(helper.make_node("Transpose", [values], ["planes"], perm=[0, 3, 1, 2]))
        values = "planes"
    nodes.append(helper.make_node("Conv", [values, "kernel"], ["map"]))
    nodes.append(helper.make_node("GlobalAveragePool", ["map"], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"]))
    nodes.append(helper.make_node("Transpose", ["map"], ["pixels"], perm=[0, 2, 3, 1]))
    nodes.append(helper.make_node("Reshape", ["pixels", "tokens"], ["sequence"]))
    names = ["vectors", *(f"output{number}" for number in range(1, len(outputs)))]
    for name, output in zip(names, outputs, strict=True):
        source = {2: "flat", 3: "sequence", 4: "mean"}[len(output)]
        if operator and name == "vectors":
            domain, _, kind = operator.rpartition(".")
            nodes.append(helper.make_node(kind, [source], [name], domain=domain, **attributes))
        else:
            nodes.append(helper.make_node("Identity", [source], [name]))
    constants = [
        numpy_helper.from_array(kernel().astype(_DTYPES[floats])[..., None, None], "kernel"),
        numpy_helper.from_array(np.array([0, -1, DIMENSION]), "tokens"),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("images", dtype, shape)],
        [helper.make_tensor_value_info(name, floats, output) for name, output in zip(names, outputs, strict=True)],
        constants,
    )
    save(graph, file, external)
    return file


def kernel() -> np.ndarray:
    """Returns the (DIMENSION, 3) matrix of `write`, exact in float16."""
    return np.random.default_rng(0).integers(-8, 9, (DIMENSION, 3)).astype(np.float32) / 8


def vectors(pixels: np.ndarray, scale: float = 1 / 255) -> np.ndarray:
    """Returns the vectors of the model of `write`, for uint8 (n, height, width, 3)."""
    return (pixels.mean(axis=(1, 2)) * scale) @ kernel().T


def values(pixels: np.ndarray, dtype: str, channels_first: bool, preprocessing: Preprocessing) -> np.ndarray:
    """Returns the values that a network takes for uint8 (n, height, width, 3), computed by NumPy in float32."""
    values = pixels[..., ::-1] if preprocessing.channels == "bgr" else pixels
    if dtype != "uint8":
        if preprocessing.pixel_range == "0..1":
            values = values / np.float32(255)
        else:
            values = values * np.float32(preprocessing.scale) + np.float32(preprocessing.offset)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if channels_first else values, dtype)


def save(graph: onnx.GraphProto, file: Path, external: str | None = None) -> None:
    """Writes a graph as a model, with the constant `kernel` in the file `external` beside it."""
    domains = {node.domain for node in graph.node} - {""}
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in sorted(domains))]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    if external is not None:
        tensor = next(constant for constant in model.graph.initializer if constant.name == "kernel")
        onnx.external_data_helper.set_external_data(tensor, location=external, offset=0, length=len(tensor.raw_data))
        (file.parent / external).parent.mkdir(parents=True, exist_ok=True)
        (file.parent / external).write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
    file.write_bytes(model.SerializeToString())


def write_bundled(file: Path) -> Path:
    """Writes the bundled network with its weights: float32 (n, 3, 224, 224) in [0, 1] → float32 (n, 1280, 1, 1)."""
    weights = catalog.weights("efficientnet_lite0")
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(values: np.ndarray) -> str:
        name = f"constant{len(constants)}"
        constants.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
        return name

    def add(operator: str, *inputs: str, **attributes: object) -> str:
        output = f"tensor{len(nodes)}"
        nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def conv(x: str, name: str, stride: int = 1, *, is_depthwise: bool = False, activation: bool = True) -> str:
        kernel, bias = _folded(weights, name)
        kernel = kernel.transpose(2, 3, 0, 1) if is_depthwise else kernel.transpose(3, 2, 0, 1)
        groups = len(bias) if is_depthwise else 1
        settings = {"auto_pad": "SAME_UPPER", "strides": [stride, stride], "group": groups}
        y = add("Conv", x, constant(kernel), constant(bias), **settings)
        return add("Clip", y, constant(np.float32(0)), constant(np.float32(6))) if activation else y

    # The bundled network gets bytes, and rescales them by (x - 127) / 128.
    scale, shift = constant(np.float32(255 / 128)), constant(np.float32(127 / 128))
    x = conv(add("Sub", add("Mul", "images", scale), shift), "stem", 2)
    for block in blocks():
        y = conv(x, f"{block.name}/expand") if block.expands else x
        y = conv(y, f"{block.name}/depthwise", block.stride, is_depthwise=True)
        y = conv(y, f"{block.name}/project", activation=False)
        x = add("Add", x, y) if block.has_residual else y
    pooled = add("GlobalAveragePool", conv(x, "head"))
    graph = helper.make_graph(
        nodes,
        "efficientnet_lite0",
        [helper.make_tensor_value_info("images", FLOAT, ["n", 3, 224, 224])],
        [helper.make_tensor_value_info(pooled, FLOAT, ["n", 1280, 1, 1])],
        constants,
    )
    save(graph, file)
    return file


def write_light(name: str, file: Path, seed: int = 0) -> Path:
    """Writes one of LIGHT with random weights: float32 (1, 3, 224, 224) → a vector of 1000.

    The package has topologies without weights: an operation in the graph fills each with one value. Weights are drawn
    here so that activations neither vanish nor overflow. A softmax at the end is left out, because it would flatten
    them.
    """
    model = onnx.load(_LIGHT / f"light_{name}.onnx")
    graph = model.graph
    random = np.random.default_rng(seed)
    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    kernels = {node.input[1] for node in graph.node if node.op_type in ("Conv", "Gemm")}
    unsqueezed = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Unsqueeze"}
    norms = [node for node in graph.node if node.op_type == "BatchNormalization"]
    scales = {node.input[index] for node in norms for index in (1, 4)} | {
        unsqueezed.get(name, name) for node in graph.node if node.op_type == "Mul" for name in node.input
    }
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = constants[node.input[0]]
        if node.output[0] in kernels:
            values = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif node.output[0] in scales:
            values = random.uniform(0.8, 1.2, shape)
        else:
            values = random.normal(0, 0.01, shape)
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), node.output[0]))
    output = graph.output[0].name
    if kept[-1].op_type == "Softmax":
        kept[-1] = helper.make_node("Identity", kept[-1].input, [output])
    del graph.node[:]
    graph.node.extend(kept)
    onnx.save(model, file)
    return file
