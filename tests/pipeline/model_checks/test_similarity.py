"""pipeline.model_checks.similarity: a model that gets other pixels than it was trained on is noticed before the run."""

import dataclasses
import json

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pipeline import launch
from pipeline.flags import options
from pipeline.model_checks import similarity
from pipeline.model_checks.sample_pixels import sample_pixels
from tests.helpers import keras_models, onnx_models
from transforms.models.engines import loading, trial
from transforms.models.preprocessing import Choices, of_range
from transforms.models.resolve import resolve

AS_BYTES = of_range("0..255")


def network():
    """A small network with a rescaling of bytes inside, as keras.applications has it, and random weights."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((48, 48, 3)),
            layers.Rescaling(1 / 127.5, offset=-1.0),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
        ]
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The network as a `.keras` file and as a SavedModel, and the network itself."""
    directory, model = tmp_path_factory.mktemp("models"), network()
    model.save(directory / "m.keras")
    model.export(str(directory / "exported"), verbose=False)
    return directory, model


@pytest.mark.slow
@pytest.mark.parametrize("name", ["m.keras", "exported"])
def test_pixels_in_another_range_are_noticed_and_the_right_ones_give_keras_own_vectors(saved, name):
    directory, model = saved
    wrong, right = (resolve(str(directory / name), choices=choices) for choices in (Choices(), AS_BYTES))
    measured = similarity.finding(wrong)
    assert measured.similarity > 0.999
    text = similarity.warning(wrong, measured)
    assert similarity.warning(wrong, measured._replace(rescaling=None)).endswith("an untrained model does that too")
    assert "pixels in 0..1: " in text and "--pixel_range 0..255" in text and "\n" not in text
    assert f"{measured.similarity:.3f}" in text
    assert "first multiplies its input by 0.007843, which contradicts" in text
    measured = similarity.finding(right)
    assert measured.similarity < similarity.COLLAPSED_COSINE and similarity.warning(right, measured) is None
    pixels = sample_pixels(right)
    expected = model.predict(pixels.astype(np.float32), verbose=0)
    np.testing.assert_allclose(loading.load(right)(pixels), expected, atol=1e-5 * np.abs(expected).max())


def test_it_is_measured_once(saved, monkeypatch):
    spec = resolve(str(saved[0] / "m.keras"), choices=AS_BYTES)
    measured = similarity.finding(spec)
    monkeypatch.setattr(trial, "embed", lambda *args: pytest.fail("measured again"))
    assert similarity.finding(spec) == measured
    assert similarity.finding(dataclasses.replace(spec, precision="bfloat16")) == measured


def test_vectors_that_hardly_differ_are_warned_of_in_any_range(tmp_path):
    """Those of a Keras model without a rescaling, which nothing but the vectors show."""
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()])
    model.save(tmp_path / "m.keras")
    spec = resolve(str(tmp_path / "m.keras"), choices=Choices(mean=(-9.0, -9.0, -9.0), std=(1.0, 1.0, 1.0)))
    measured = similarity.finding(spec)
    assert measured.rescaling is None and measured.similarity > similarity.COLLAPSED_COSINE
    assert "from pixels / 255, less the mean -9, -9, -9, over 1, 1, 1: if it was trained on others, give " in (
        similarity.warning(spec, measured)
    )


def test_vectors_of_zeros_do_not_differ(tmp_path):
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
            helper.make_node("Mul", ["mean", "kernel"], ["vectors"]),
        ],
        "zeros",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", 3, 1, 1])],
        [onnx.numpy_helper.from_array(np.zeros(1, np.float32), "kernel")],
    )
    onnx_models.save(graph, tmp_path / "m.onnx")
    assert similarity.finding(resolve(str(tmp_path / "m.onnx"))) == (1.0, None)


def test_a_bundled_model_is_not_measured(model):
    assert similarity.finding(model) is None and similarity.warning(model, None) is None


@pytest.mark.slow
def test_the_run_says_so_before_it_starts_and_the_report_has_the_spread(saved, tmp_path, capfd):
    command = [f"--model={saved[0]}/m.keras", f"--input={options.SAMPLES}", f"--output={tmp_path}/out"]
    for number, flags in enumerate(([], ["--pixel_range", "0..255"])):
        assert launch.main([*command, f"--run_id=r{number}", *flags]) == 0
        said = capfd.readouterr()
        report = json.loads((tmp_path / "out" / "runs" / f"r{number}.json").read_text())
        is_wrong = not flags
        assert (report["model"]["spread"] > similarity.COLLAPSED_COSINE) == is_wrong
        assert report["model"]["preprocessing"]["std"] == ([1.0] * 3 if is_wrong else [1 / 255] * 3)
        assert ("warning: model " in said.err) == is_wrong
        assert ("vectors of different photographs hardly differ" in said.out) == is_wrong


@pytest.mark.slow
def test_real_weights_in_a_keras_model_that_expects_bytes(model, tmp_path):
    """The bundled network in Keras: warned of by default, and the bundled model's vectors with the right range."""
    keras_models.bundled().save(tmp_path / "m.keras")
    wrong, right = (resolve(str(tmp_path / "m.keras"), choices=choices) for choices in (Choices(), AS_BYTES))
    assert "--pixel_range 0..255" in similarity.warning(wrong, similarity.finding(wrong))
    assert similarity.finding(wrong).similarity > 0.999  # measured: 0.9995, and 0.146 with the right range
    assert similarity.finding(right).similarity < 0.2 and similarity.warning(right, similarity.finding(right)) is None
    pixels = sample_pixels(right)
    expected, vectors = loading.load(model)(pixels), loading.load(right)(pixels)
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(vectors, axis=1)
    assert ((expected * vectors).sum(axis=1) / lengths).min() > 0.9999
