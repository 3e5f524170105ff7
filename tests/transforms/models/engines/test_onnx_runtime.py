"""transforms.models.engines.onnx_runtime: ONNX Runtime on the same bytes."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.helpers import onnx_models
from transforms.models.engines import device, onnx_runtime
from transforms.models.engines.fixed_batches import InferenceError, OutOfDeviceMemory
from transforms.models.image_interface import InterfaceError, derive
from transforms.models.preprocessing import TF_HUB, Preprocessing

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
        with pytest.raises(RuntimeError, match="install onnx, and onnxruntime-gpu in place of onnxruntime, in"):
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

    def run_with_ort_values(self, outputs, values):
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


# A network of five weighted sums of the mean colours, by its text: https://onnx.ai/onnx/api/parser.html
NETWORK = """<ir_version: {ir}, opset_import: ["": {opset}]>
network ({dtype}[{shape}] {name}{inputs}) => (float[n, 5] vectors)
<float[5, 3, 1, 1] kernel = {{{kernel}}}{constants}> {{
  {front}
  map = Conv({planes}, kernel)
  mean = GlobalAveragePool(map)
  vectors = Flatten(mean)
}}"""
TO_PLANES = "Transpose <perm = [0, 3, 1, 2]>"
QDQ = "q = QuantizeLinear({0}, scale, zero)\n p = DequantizeLinear(q, scale, zero)"
QUANTIZED = {"constants": ", float scale = {0.0039}, uint8 zero = {3}", "planes": "p"}
BRANCHES = """sum = ReduceSum <keepdims = 0> ({0})
  below = Less(sum, limit)
  p = If(below) <then_branch = a () => (float[n, 3, h, w] values) { values = Neg(images) },
                 else_branch = b () => (float[n, 3, h, w] step1) { step1 = Identity(images) }>"""
NETWORKS = {
    **{f"opset {opset}": {"opset": opset} for opset in (7, 8, 9, 10, 11, 12, 13, 15, 18, 21, 23)},
    **{f"IR {ir}": {"ir": ir, "opset": 8} for ir in (4, 5, 9, 10)},
    "IR 3, its constant an input": {"ir": 3, "opset": 8, "inputs": ", float[5, 3, 1, 1] kernel"},
    "NHWC": {"shape": "n, h, w, 3", "front": f"p = {TO_PLANES} ({{0}})", "planes": "p"},
    "fixed axes": {"shape": "4, 3, 6, 5"},
    "float16": {"dtype": "float16", "front": "p = Cast <to = 1> ({0})", "planes": "p"},
    "a name of ours": {"name": "pixels"},
    "names of ours": {"name": "values", "front": "pixels = Neg({0})\n step1 = Neg(pixels)", "planes": "step1"},
    "branches": {"front": BRANCHES, "planes": "p", "constants": ", float limit = {100}"},
    "QDQ": {"front": QDQ, **QUANTIZED},
    "QDQ in NHWC": {"shape": "n, h, w, 3", "front": f"{QDQ}\n t = {TO_PLANES} (p)", **QUANTIZED, "planes": "t"},
    "quantized, takes bytes": {"dtype": "uint8", "front": "p = DequantizeLinear({0}, scale, zero)", **QUANTIZED},
}


def network(
    file,
    *,
    ir=8,
    opset=17,
    dtype="float",
    shape="n, 3, h, w",
    name="images",
    inputs="",
    constants="",
    front="",
    planes="",
):
    """Writes NETWORK, and returns its session and interface."""
    text = NETWORK.format(
        ir=ir,
        opset=opset,
        dtype=dtype,
        shape=shape,
        name=name,
        inputs=inputs,
        constants=constants,
        front=front.replace("{0}", name),
        planes=planes or name,
        kernel=", ".join(map(str, onnx_models.kernel().ravel())),
    )
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model)
    file.write_bytes(model.SerializeToString())
    session = onnx_runtime.open_session(file)
    return session, derive(onnx_runtime.signature(session), None, channels_first=True)


@pytest.mark.parametrize(
    "preprocessing", [TF_HUB, Preprocessing(*onnx_models.IMAGENET, "bgr")], ids=["0..1", "ImageNet in BGR"]
)
@pytest.mark.parametrize("parts", NETWORKS.values(), ids=NETWORKS)
def test_a_network_gets_the_values_of_numpy(tmp_path, parts, preprocessing):
    """Each of these breaks graphs that are put together, by reports on onnx and ONNX Runtime.

    Sources: https://github.com/onnx/onnx/issues/4687 and /5985 (branches), https://github.com/scailable/sclblonnx/issues/21
    (names), https://github.com/NVIDIA-NeMo/Speech/pull/1353 and https://github.com/fastmachinelearning/qonnx/pull/59
    (operator sets), https://github.com/microsoft/onnxruntime/issues/28716 and /32132 (QDQ behind a transposition).
    """
    session, interface = network(tmp_path / "m.onnx", **parts)
    values = onnx_models.values(PIXELS, interface.dtype, interface.channels_first, preprocessing)
    (expected,) = session.run(None, {session.get_inputs()[0].name: values})
    vectors = onnx_runtime.compiled(session, interface, preprocessing)(PIXELS)
    np.testing.assert_array_equal(vectors, expected)


def test_the_file_of_a_network_is_read_once_and_nothing_is_written(tmp_path):
    """So its size does not matter: above 2 GiB, protobuf cannot serialize a graph again."""
    file = onnx_models.write(tmp_path / "model" / "m.onnx", external="weights/w.bin")
    session = onnx_runtime.open_session(file)
    shutil.rmtree(file.parent)
    run = onnx_runtime.compiled(session, derive(onnx_runtime.signature(session), None, channels_first=True))
    np.testing.assert_allclose(run(PIXELS), onnx_models.vectors(PIXELS), atol=1e-6)
    assert list(tmp_path.iterdir()) == []


def test_threads_that_call_it_at_once_get_their_own_vectors(tmp_path):
    run = opened(onnx_models.write(tmp_path / "m.onnx"))
    batches = np.random.default_rng(1).integers(0, 256, (64, 4, 64, 48, 3), np.uint8)
    with ThreadPoolExecutor(8) as threads:
        vectors = list(threads.map(run, batches))
    for batch, actual in zip(batches, vectors, strict=True):
        np.testing.assert_allclose(actual, onnx_models.vectors(batch), atol=1e-6)


def test_a_gpu_gets_bytes_and_keeps_the_values(tmp_path, monkeypatch):
    """No GPU here: what is bound, and to which device."""
    calls = []
    session = onnx_runtime.open_session(onnx_models.write(tmp_path / "m.onnx"))
    on_gpu = SimpleNamespace(
        bind_cpu_input=lambda name, pixels: calls.append((name, pixels.dtype, pixels.shape)),
        bind_output=lambda name, device_type: calls.append((name, device_type)),
        get_outputs=lambda: [onnxruntime.OrtValue.ortvalue_from_numpy(np.ones((4, 3, 6, 5), np.float32))],
    )
    values = SimpleNamespace(
        get_providers=lambda: [onnx_runtime.GPU, onnx_runtime.CPU],
        io_binding=lambda: on_gpu,
        run_with_iobinding=lambda binding: calls.append(binding),
    )
    monkeypatch.setattr(onnx_runtime, "_open", lambda model, optimized: values)
    interface = derive(onnx_runtime.signature(session), None, channels_first=True)
    vectors = onnx_runtime.compiled(session, interface)(PIXELS)
    assert calls == [("pixels", np.uint8, PIXELS.shape), ("values", "cuda"), on_gpu]
    np.testing.assert_allclose(vectors, [onnx_models.kernel().sum(axis=1)] * 4, rtol=1e-6)


def test_pixels_may_be_a_view_that_is_not_contiguous_or_not_writable(tmp_path):
    run = opened(onnx_models.write(tmp_path / "m.onnx"))
    np.testing.assert_array_equal(run(PIXELS[:, ::-1]), run(PIXELS[:, ::-1].copy()))
    np.testing.assert_array_equal(run(np.frombuffer(PIXELS.tobytes(), np.uint8).reshape(PIXELS.shape)), run(PIXELS))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("seq(float[n]) more", r"more: seq\(tensor\(float\)\)"),
        ("optional(float[n]) more", r"more: optional\(tensor\(float\)\)"),
        ("int64[n] more", r"more: int64\[\?\]"),
    ],
    ids=["sequence", "optional", "tensor"],
)
def test_a_network_with_further_inputs_is_refused(tmp_path, text, named):
    with pytest.raises(InterfaceError, match=rf"not a model of images: it has \(images: float32\[.*, {named}"):
        network(tmp_path / "m.onnx", inputs=f", {text}")


def test_an_input_in_double_is_refused(tmp_path):
    with pytest.raises(InterfaceError, match="expected one input, float32 or float16 or uint8, of shape"):
        network(tmp_path / "m.onnx", dtype="double", front="p = Cast <to = 1> ({0})", planes="p")


def test_an_input_that_has_a_constant_keeps_it(tmp_path):
    """As in https://github.com/microsoft/onnxruntime/issues/7641."""
    session, interface = network(tmp_path / "m.onnx", inputs=", float more = {1}")
    np.testing.assert_allclose(
        onnx_runtime.compiled(session, interface)(PIXELS), onnx_models.vectors(PIXELS), atol=1e-6
    )
