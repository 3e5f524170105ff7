"""transforms.models.engines.onnx_values: the values of NumPy, computed in front of the network."""

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.helpers import onnx_models
from transforms.models.engines import onnx_runtime, onnx_values
from transforms.models.image_interface import ImageInterface
from transforms.models.preprocessing import RANGES, TF_HUB, Preprocessing

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)


def graph(dtype="float32", channels_first=True, preprocessing=TF_HUB):
    return onnx_values.graph(ImageInterface(dtype, channels_first, None, None, None, "vectors"), preprocessing)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize(("mean", "std"), [*RANGES.values(), onnx_models.IMAGENET], ids=[*RANGES, "ImageNet"])
@pytest.mark.parametrize("channels_first", [True, False], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_values_are_those_of_numpy_to_the_last_bit(dtype, channels_first, mean, std, channels):
    preprocessing = Preprocessing(mean, std, channels)
    session = onnx_runtime._open(graph(dtype, channels_first, preprocessing), optimized=False)
    (values,) = session.run(None, {onnx_values.PIXELS: PIXELS})
    assert values.dtype == dtype
    np.testing.assert_array_equal(values, onnx_models.values(PIXELS, dtype, channels_first, preprocessing))


def test_the_graph_takes_bytes_of_any_number_and_size_and_is_valid():
    model = onnx.load_from_string(graph())
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    assert (port.type, len(port.shape), port.shape[3]) == ("tensor(uint8)", 4, 3)
    for shape in ((1, 1, 1, 3), (3, 2, 7, 3)):
        assert session.run(None, {port.name: np.zeros(shape, np.uint8)})[0].shape == (shape[0], 3, *shape[1:3])
