"""transforms.models.engines.portable_model: OpenVINO runs portable models, and ONNX Runtime those that it cannot."""

import math
import subprocess
import sys

import numpy as np
import onnx
import pytest

from tests.helpers import onnx_models
from tests.helpers.running import ROOT
from transforms.models import portable
from transforms.models.engines import cache, loading, onnx_runtime, openvino_engine, portable_model
from transforms.models.preprocessing import Choices
from transforms.models.resolve import resolve

openvino = pytest.importorskip("openvino")

PIXELS = np.random.default_rng(0).integers(0, 256, (11, 6, 5, 3), np.uint8)
SIZE = (6, 5)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BEAM_IMAGE_EMBEDDINGS_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    cache._may_use.cache_clear()


def load(path, size=SIZE, **how):
    loading._load.cache_clear()
    return loading.load(resolve(str(path), Choices(size), **how))


def test_openvino_runs_a_model(tmp_path):
    model = load(onnx_models.write(tmp_path / "m.onnx"))
    assert model.engine == "OpenVINO"
    np.testing.assert_allclose(model(PIXELS), onnx_models.vectors(PIXELS), atol=1e-6)


def test_onnx_runtime_runs_what_openvino_does_not_know(tmp_path, caplog):
    scaled = {"operator": "ai.onnx.ml.Scaler", "offset": [0.0] * 5, "scale": [2.0] * 5}
    model = load(onnx_models.write(tmp_path / "m.onnx", **scaled))
    assert model.engine == "ONNX Runtime"
    np.testing.assert_allclose(model(PIXELS), 2 * onnx_models.vectors(PIXELS), atol=1e-6)
    assert (
        "ONNX Runtime runs this model because OpenVINO cannot: "
        "No conversion rule found for operations: ai.onnx.ml.Scaler" in caplog.text
    )


def test_without_openvino_onnx_runtime_runs_a_model(tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_engine, "openvino", None)
    for shape in (("n", 3, "h", "w"), (4, 3, 6, 5)):
        model = load(onnx_models.write(tmp_path / "m.onnx", shape=shape, outputs=((shape[0], 5),)))
        assert model.engine == "ONNX Runtime"
        np.testing.assert_allclose(model(PIXELS), onnx_models.vectors(PIXELS), atol=1e-6)


def test_what_neither_engine_runs(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx", operator="com.example.Magic")
    expected = r"OpenVINO cannot run it \(No conversion rule .*: com\.example\.Magic\), and ONNX Runtime does not take "
    with pytest.raises(ValueError, match=expected) as error:
        resolve(str(file), Choices(SIZE))
    assert "\n" not in str(error.value)


def test_what_openvino_cannot_run_without_onnx_runtime(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_runtime, "is_installed", lambda: False)
    file = onnx_models.write(tmp_path / "m.onnx", operator="com.example.Magic")
    with pytest.raises(
        ValueError, match=r"com\.example\.Magic\); ONNX Runtime may: pip install 'beam-image-embeddings\[onnx"
    ):
        resolve(str(file), Choices(SIZE))


@pytest.mark.parametrize("suffix", [".xml", ".tflite"])
def test_onnx_runtime_reads_no_other_format(tmp_path, suffix):
    (tmp_path / f"m{suffix}").write_bytes(b"no model")
    (tmp_path / "m.bin").touch()
    with pytest.raises(ValueError, match=rf"m\{suffix}': OpenVINO cannot run it"):
        resolve(str(tmp_path / f"m{suffix}"), Choices(SIZE))


def test_vectors_that_differ_from_onnx_runtimes_are_not_used(tmp_path, monkeypatch, caplog, empty_cache):
    right = openvino_engine.compile_network

    def compiled(*args):
        run = right(*args)
        return lambda pixels: run(pixels) * np.float32(1.01)

    monkeypatch.setattr(openvino_engine, "compile_network", compiled)
    model = load(onnx_models.write(tmp_path / "m.onnx"))
    np.testing.assert_allclose(model(PIXELS), onnx_models.vectors(PIXELS), atol=1e-6)
    assert "OpenVINO cannot: its vectors differ from ONNX Runtime's by" in caplog.text
    assert not list(empty_cache.glob("agreement-*"))


def test_engines_are_compared_once(tmp_path, empty_cache):
    """A second run imports neither ONNX Runtime nor TensorFlow."""
    file = onnx_models.write(tmp_path / "m.onnx")
    load(file)
    assert len(list(empty_cache.glob("agreement-*"))) == 1
    code = """
import sys, numpy as np
from transforms.models.engines import loading
from transforms.models.preprocessing import Choices
from transforms.models.resolve import resolve
model = loading.load(resolve(sys.argv[1], Choices((6, 5))))
print(model(np.zeros((1, 6, 5, 3), np.uint8)).shape, {"onnxruntime", "tensorflow", "onnx"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code, file], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 5) set()"


def test_bfloat16_is_openvinos(tmp_path):
    scaled = {"operator": "ai.onnx.ml.Scaler", "offset": [0.0] * 5, "scale": [2.0] * 5}
    spec = resolve(str(onnx_models.write(tmp_path / "m.onnx", **scaled)), Choices(SIZE))
    with pytest.raises(ValueError, match="and ONNX Runtime computes in float32 only, not in bfloat16"):
        portable_model.compile_model(spec, "bfloat16", 8)
    spec = resolve(str(onnx_models.write(tmp_path / "m.onnx")), Choices(SIZE))
    if "bfloat16" in portable_model.precisions("onnx"):
        run, images, *_ = portable_model.compile_model(spec, "bfloat16", 8)
        np.testing.assert_allclose(run(PIXELS[:images]), onnx_models.vectors(PIXELS[:images]), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_batches_of_a_fixed_size_are_filled_up_and_cut(tmp_path, batch_size):
    shape = (batch_size, 3, 6, 5)
    model = load(onnx_models.write(tmp_path / "m.onnx", shape=shape, outputs=((batch_size, 5),)), None)
    for images in (1, 4, 11):
        np.testing.assert_allclose(model(PIXELS[:images]), onnx_models.vectors(PIXELS[:images]), atol=1e-6)


def test_a_model_of_tflite(tmp_path):
    import tensorflow as tf

    kernel = tf.constant(onnx_models.kernel().T)
    function = tf.function(
        lambda images: tf.reduce_mean(images, [1, 2]) @ kernel, input_signature=[tf.TensorSpec((1, *SIZE, 3))]
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    (tmp_path / "m.tflite").write_bytes(converter.convert())
    spec = resolve(str(tmp_path / "m.tflite"))
    assert (spec.format, spec.image_size, spec.dimension) == ("tflite", SIZE, 5)
    np.testing.assert_allclose(loading.load(spec)(PIXELS), onnx_models.vectors(PIXELS), atol=1e-5)


@pytest.fixture(scope="module")
def photographs(model):
    """The sample images at 224×224, and their vectors by the bundled model."""
    from pipeline.model_checks.sample_pixels import sample_pixels

    pixels = sample_pixels(model)
    return pixels, loading.load(model)(pixels)


def vectors_of(path, pixels):
    spec = resolve(str(path))
    assert (spec.dimension, spec.image_size) == (1280, (224, 224))
    return loading.load(spec)(pixels)


def similarities(vectors, others):
    unit, other = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (vectors, others))
    return unit @ other.T


def check_same_neighbours(vectors, expected):
    """Asserts a cosine of 0.9999 and the same order of the five nearest images."""
    assert similarities(vectors, expected).diagonal().min() >= 0.9999
    neighbours, own = (np.argsort(-similarities(v, v), axis=1)[:, :6] for v in (vectors, expected))
    np.testing.assert_array_equal(neighbours, own)


@pytest.mark.slow
def test_the_bundled_network_as_onnx(tmp_path, photographs):
    pixels, expected = photographs
    file = onnx_models.write_bundled(tmp_path / "m.onnx")
    check_same_neighbours(vectors_of(file, pixels), expected)
    network = onnx.load(file).graph
    weights = {name for node in network.node if node.op_type == "Conv" for name in node.input[1:]}
    count = sum(math.prod(constant.dims) for constant in network.initializer if constant.name in weights)
    parameters = portable_model.describe(portable.find(file)).parameters
    assert count < parameters < 1.0001 * count  # the network has a few constants more


@pytest.mark.slow
def test_the_bundled_network_as_an_ir(tmp_path, photographs, model):
    pixels, expected = photographs
    openvino.save_model(
        openvino_engine.bundled(model.name, model.image_size), tmp_path / "m.xml", compress_to_fp16=False
    )
    check_same_neighbours(vectors_of(tmp_path / "m.xml", pixels), expected)


def test_an_ir_with_weights_in_float16(tmp_path, photographs, model):
    pixels, expected = photographs
    openvino.save_model(openvino_engine.bundled(model.name, model.image_size), tmp_path / "m.xml")
    assert similarities(vectors_of(tmp_path / "m.xml", pixels), expected).diagonal().min() >= 0.9999


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) for n in onnx_models.LIGHT[:-1]] + ["squeezenet"]
)
def test_known_topologies_agree_with_onnx_runtime(tmp_path, photographs, name):
    pixels, _ = photographs
    file = onnx_models.write_light(name, tmp_path / "m.onnx")
    model = load(file, None)
    assert model.engine == "OpenVINO"
    vectors = model(pixels)
    # By code of its own: ONNX Runtime on one image at a time.
    session = onnx_runtime.open_session(file)
    images = [(pixels[index : index + 1] / np.float32(255)).transpose(0, 3, 1, 2) for index in range(len(pixels))]
    expected = np.concatenate([session.run(None, {session.get_inputs()[0].name: image})[0] for image in images])
    expected = expected.reshape(len(pixels), -1)
    error = np.linalg.norm(vectors - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() <= 1e-3
    # Random weights give photographs vectors that are near to one another. The error is far below their distances.
    assert error.max() * 20 < np.linalg.norm(expected[0] - expected[1]) / np.linalg.norm(expected[0])
