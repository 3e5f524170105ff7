"""transforms.models.engines.onnx_runtime: ONNX Runtime on the same bytes."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers import onnx_models
from transforms.models.engines import device, onnx_runtime
from transforms.models.engines.fixed_batches import InferenceError, OutOfDeviceMemory
from transforms.models.image_interface import InterfaceError, derive
from transforms.models.preprocessing import Preprocessing

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)


def opened(file):
    session = onnx_runtime.open_session(file)
    return onnx_runtime.compiled(session, derive(onnx_runtime.signature(session), None, channels_first=True))


@pytest.mark.parametrize("shape", [("n", 3, "h", "w"), ("n", "h", "w", 3), (4, 3, 6, 5)], ids=str)
@pytest.mark.parametrize(
    ("dtype", "scale", "tolerance"),
    [
        (onnx_models.FLOAT, 1 / 255, 1e-6),
        (onnx_models.FLOAT16, 1 / 255, 3e-3),  # 11 bits, in sums of three
        (onnx_models.UINT8, 1, 1e-4),  # values up to 255
    ],
    ids=["float32", "float16", "uint8"],
)
def test_vectors_are_those_of_numpy_in_each_type_and_layout(tmp_path, dtype, scale, tolerance, shape):
    outputs = ((shape[0], onnx_models.DIMENSION, 1, 1),)
    run = opened(onnx_models.write(tmp_path / "m.onnx", dtype=dtype, shape=shape, outputs=outputs))
    vectors = run(PIXELS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, onnx_models.vectors(PIXELS, scale), atol=tolerance)


@pytest.mark.parametrize("dtype", [onnx_models.FLOAT, onnx_models.UINT8], ids=["float32", "uint8"])
def test_values_of_another_range_and_order(tmp_path, dtype):
    preprocessing = Preprocessing((0.1, 0.2, 0.3), (0.5, 0.25, 0.2), "bgr")
    session = onnx_runtime.open_session(onnx_models.write(tmp_path / "m.onnx", dtype=dtype))
    interface = derive(onnx_runtime.signature(session), None, channels_first=True)
    values = PIXELS[..., ::-1]  # a network that takes bytes gets them in its order, as they are
    if dtype == onnx_models.FLOAT:
        values = (values / 255 - preprocessing.mean) / preprocessing.std
    vectors = onnx_runtime.compiled(session, interface, preprocessing)(PIXELS)
    np.testing.assert_allclose(vectors, onnx_models.vectors(values, 1), rtol=1e-5, atol=1e-4)


def test_the_signature_names_types_and_shapes(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx", shape=(1, 3, "h", "w"), dtype=onnx_models.FLOAT16, outputs=((1, 5),))
    signature = onnx_runtime.signature(onnx_runtime.open_session(file))
    assert str(signature) == "(images: float16[1, 3, ?, ?]) → vectors: float16[1, 5]"


def test_one_vector_for_each_token_is_refused(tmp_path):
    run = opened(onnx_models.write(tmp_path / "m.onnx", outputs=(("n", "t", onnx_models.DIMENSION),)))
    with pytest.raises(InterfaceError, match=r"the output 'vectors' has the shape \[4, 30, 5\] for 4 images"):
        run(PIXELS)


def test_an_error_is_one_line(tmp_path):
    run = opened(onnx_models.write(tmp_path / "m.onnx", shape=(1, 3, 6, 5), outputs=((1, 5),)))
    with pytest.raises(InferenceError, match=r"\AInvalidArgument: .*\Z") as error:
        run(PIXELS)
    assert not isinstance(error.value, OutOfDeviceMemory)


def test_what_it_does_not_take(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"ONNX Runtime does not take '.*m\.onnx': .*") as error:
        onnx_runtime.open_session(tmp_path / "m.onnx")
    assert "\n" not in str(error.value)


def test_a_gpu_that_is_asked_for():
    with pytest.raises(RuntimeError, match="openvino models run on CPUs only: give a model in ONNX"):
        onnx_runtime.check_gpu("openvino")
    if not onnx_runtime.has_gpu():
        with pytest.raises(RuntimeError, match="install onnxruntime-gpu, in place of onnxruntime, in the image"):
            onnx_runtime.check_gpu("onnx")


def test_a_gpu_needs_a_driver(monkeypatch):
    onnx_runtime.has_gpu.cache_clear()
    monkeypatch.setattr(device, "has_driver", lambda: False)
    assert not onnx_runtime.has_gpu()
    onnx_runtime.has_gpu.cache_clear()


def test_a_gpu_that_it_cannot_use_is_an_error_and_not_a_slow_run(tmp_path, monkeypatch):
    file = onnx_models.write(tmp_path / "m.onnx")
    monkeypatch.setattr(onnx_runtime, "has_gpu", lambda: True)
    with pytest.raises(ValueError, match=r"onnxruntime-gpu .* cannot use the GPU: expected the CUDA and cuDNN that "):
        onnx_runtime.open_session(file)


class Session:
    """A session whose call raises an error."""

    def __init__(self, error):
        self.error = error

    def get_inputs(self):
        return [SimpleNamespace(name="images")]

    def run(self, outputs, values):
        raise self.error


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 9"), True),
        (RuntimeError("no kernel"), False),
    ],
    ids=["of Python", "of the device", "another"],
)
def test_a_device_without_memory_is_told_from_other_errors(tmp_path, error, is_memory):
    session = onnx_runtime.open_session(onnx_models.write(tmp_path / "m.onnx"))
    interface = derive(onnx_runtime.signature(session), None, channels_first=True)
    with pytest.raises(InferenceError, match=f"^{type(error).__name__}: ") as raised:
        onnx_runtime.compiled(Session(error), interface)(PIXELS)
    assert isinstance(raised.value, OutOfDeviceMemory) is is_memory


def test_a_call_takes_one_thread(tmp_path):
    options = onnx_runtime.open_session(onnx_models.write(tmp_path / "m.onnx")).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
