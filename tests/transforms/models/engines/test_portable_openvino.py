"""transforms.models.engines.portable_openvino: a network of any interface as one function of bytes."""

import numpy as np
import onnx
import pytest

from tests.helpers import onnx_models
from transforms.models import portable
from transforms.models.engines import openvino_engine, portable_openvino
from transforms.models.image_interface import InterfaceError, derive
from transforms.models.preprocessing import Preprocessing

openvino = pytest.importorskip("openvino")

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)
SIZE = (6, 5)


def adapted(file, size=SIZE, output=None):
    network = portable_openvino.read(portable.find(file))
    interface = derive(portable_openvino.signature(network), output, channels_first=True)
    return portable_openvino.adapted(network, interface, size)


def vectors_of(network):
    batch_size = network.input().get_partial_shape()[0]
    images = batch_size.get_length() if batch_size.is_static else len(PIXELS)
    run = openvino_engine.compile_network(network, SIZE, images, "float32", 1)
    return np.concatenate([run(PIXELS[start : start + images]) for start in range(0, len(PIXELS), images)])


@pytest.mark.parametrize(
    "shape", [("n", 3, "h", "w"), ("n", "h", "w", 3), ("n", 3, 6, 5), (2, 6, 5, 3), (1, 3, "h", "w")], ids=str
)
@pytest.mark.parametrize(
    ("dtype", "scale", "tolerance"),
    [
        (onnx_models.FLOAT, 1 / 255, 1e-6),
        (onnx_models.FLOAT16, 1 / 255, 3e-3),  # 11 bits, in sums of three
        (onnx_models.UINT8, 1, 1e-4),  # values up to 255
    ],
    ids=["float32", "float16", "uint8"],
)
def test_adapted_vectors_are_those_of_numpy_in_each_type_and_layout(tmp_path, dtype, scale, tolerance, shape):
    outputs = ((shape[0], onnx_models.DIMENSION, 1, 1),)
    network = adapted(onnx_models.write(tmp_path / "m.onnx", dtype=dtype, shape=shape, outputs=outputs))
    vectors = vectors_of(network)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, onnx_models.vectors(PIXELS, scale), atol=tolerance)


def test_one_of_two_outputs(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx", outputs=(("n", 5), ("n", "t", 5)))
    np.testing.assert_allclose(vectors_of(adapted(file, output="vectors")), onnx_models.vectors(PIXELS), atol=1e-6)
    with pytest.raises(InterfaceError, match=r"the output 'output1' has the shape \[2, 30, 5\] for 2 images"):
        adapted(file, output="output1")


def test_external_data(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx", external="weights/w.bin")
    np.testing.assert_allclose(vectors_of(adapted(file)), onnx_models.vectors(PIXELS), atol=1e-6)


def test_a_network_serves_several_sizes(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx")
    assert adapted(file, (9, 8)).input().get_partial_shape().to_string() == "[?,9,8,3]"
    np.testing.assert_allclose(vectors_of(adapted(file)), onnx_models.vectors(PIXELS), atol=1e-6)


def test_an_ir_of_the_same_network(tmp_path):
    network = portable_openvino.read(portable.find(onnx_models.write(tmp_path / "m.onnx")))
    (tmp_path / "ir").mkdir()
    openvino.save_model(network, tmp_path / "ir" / "m.xml")
    np.testing.assert_allclose(vectors_of(adapted(tmp_path / "ir")), onnx_models.vectors(PIXELS), atol=1e-6)


def test_an_operation_that_openvino_lacks_is_named(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx", operator="com.example.Magic")
    with pytest.raises(
        portable_openvino.NotRunnable, match=r"\ANo conversion rule found for operations: com\.example\.Magic\Z"
    ):
        adapted(file)


def test_a_shape_that_depends_on_the_pixels(tmp_path):
    with pytest.raises(portable_openvino.NotRunnable, match="the shape of the output 'vectors' depends on the pixels"):
        adapted(onnx_models.write(tmp_path / "m.onnx", operator="Unique"))


@pytest.mark.parametrize("name", ["m.onnx", "m.xml", "m.tflite"])
def test_what_is_no_model_is_one_line(tmp_path, name):
    """Each format is read as itself, whatever else the content may be."""
    onnx_models.write(tmp_path / "valid.onnx")
    content = b"no model" if name == "m.onnx" else (tmp_path / "valid.onnx").read_bytes()
    (tmp_path / name).write_bytes(content)
    (tmp_path / "m.bin").touch()
    model = portable.PortableModel(portable.FORMATS[f".{name.split('.')[1]}"], tmp_path / name, {})
    with pytest.raises(portable_openvino.NotRunnable) as error:
        portable_openvino.read(model)
    assert str(error.value) and "\n" not in str(error.value)


def test_weights_are_counted(tmp_path):
    network = portable_openvino.read(portable.find(onnx_models.write(tmp_path / "m.onnx")))
    assert portable_openvino.parameters(network) == 3 * onnx_models.DIMENSION


@pytest.mark.parametrize("dtype", [onnx_models.FLOAT, onnx_models.UINT8], ids=["float32", "uint8"])
@pytest.mark.parametrize("shape", [("n", 3, "h", "w"), ("n", "h", "w", 3)], ids=["NCHW", "NHWC"])
def test_values_of_another_range_and_order(tmp_path, dtype, shape):
    preprocessing = Preprocessing((0.1, 0.2, 0.3), (0.5, 0.25, 0.2), "bgr")
    network = portable_openvino.read(portable.find(onnx_models.write(tmp_path / "m.onnx", dtype=dtype, shape=shape)))
    interface = derive(portable_openvino.signature(network), None, channels_first=True)
    values = PIXELS[..., ::-1]  # a network that takes bytes gets them in its order, as they are
    if dtype == onnx_models.FLOAT:
        values = (values / 255 - preprocessing.mean) / preprocessing.std
    vectors = vectors_of(portable_openvino.adapted(network, interface, SIZE, preprocessing))
    np.testing.assert_allclose(vectors, onnx_models.vectors(values, 1), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("operators", "factor"),
    [
        ((("Mul", 1 / 255),), 1 / 255),
        ((("Div", 255.0),), 1 / 255),
        ((("Sub", 127.0), ("Div", [127.5, 128.0, 129.0])), 1 / 127.5),
        ((("Add", 1.0),), None),
        ((), None),
        ((("Mul", 0.0),), None),
    ],
    ids=str,
)
def test_the_factor_that_a_network_begins_with(tmp_path, operators, factor):
    onnx_models.write(tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx").graph
    source = "images"
    for number, (operator, constant) in enumerate(operators):
        values = np.array(constant, np.float32).reshape(1, -1, 1, 1)
        graph.initializer.append(onnx.numpy_helper.from_array(values, f"constant{number}"))
        node = onnx.helper.make_node(operator, [source, f"constant{number}"], [f"scaled{number}"])
        graph.node.insert(number, node)
        source = f"scaled{number}"
    graph.node[len(operators)].input[0] = source
    onnx_models.save(graph, tmp_path / "m.onnx")
    found = portable_openvino.first_factor(portable_openvino.read(portable.find(tmp_path / "m.onnx")))
    assert found == (None if factor is None else pytest.approx(factor))
