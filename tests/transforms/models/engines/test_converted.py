"""transforms.models.engines.converted: a network of OpenVINO's stands in for a model only where the vectors agree."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import tiny_module
from transforms.models.engines import converted, opening, openvino_engine
from transforms.models.preprocessing import Choices
from transforms.models.resolve import resolve

pytest.importorskip("openvino")


@pytest.fixture(autouse=True)
def nothing_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("BEAM_IMAGE_EMBEDDINGS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def spec(tmp_path):
    return resolve(str(tiny_module.write_plain(tmp_path / "m")), Choices((24, 40)))


def vectors_of(network, spec, pixels):
    return openvino_engine.compile_network(network, spec.image_size, len(pixels), "float32", 1)(pixels)


def test_the_network_gives_the_vectors_of_the_model(spec):
    network = converted.network(spec)
    pixels = np.random.default_rng(0).integers(0, 256, (3, *spec.image_size, 3), np.uint8)
    np.testing.assert_allclose(vectors_of(network, spec, pixels), opening.open_model(spec)(pixels), rtol=1e-5)
    assert converted.network(spec) is network


def spoil(monkeypatch, factors):
    """Makes OpenVINO give vectors that are too long by a factor for each image of the comparison."""
    right = openvino_engine.compile_network

    def compiled(*args):
        run = right(*args)
        return lambda pixels: run(pixels) * np.array(factors, np.float32)[:, None]

    monkeypatch.setattr(openvino_engine, "compile_network", compiled)


def test_vectors_that_are_near_enough_will_do(spec, monkeypatch):
    spoil(monkeypatch, [1.0009, 0.9991])
    assert converted.network(spec)


@pytest.mark.parametrize("factors", [(1.0, 1.0011), (0.9989, 1.0), (np.nan, 1.0)])
def test_one_vector_that_is_too_far_is_too_many(spec, monkeypatch, tmp_path, factors):
    spoil(monkeypatch, factors)
    with pytest.raises(converted.NotConvertible, match="its vectors differ from TensorFlow's by"):
        converted.network(spec)
    assert not list(tmp_path.glob("cache/network-*"))


def test_what_openvino_does_not_read_is_not_convertible(spec, monkeypatch):
    def read(graph):
        assert "Mean" in {node.op for node in tf.compat.v1.GraphDef.FromString(graph).node}
        raise RuntimeError("no such operation")

    monkeypatch.setattr(openvino_engine, "read", read)
    with pytest.raises(converted.NotConvertible, match="no such operation"):
        converted.network(spec)


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device")], ids=repr)
def test_a_fault_of_the_machine_does_not_mean_that_the_model_is_not_convertible(spec, monkeypatch, error):
    def read(graph):
        raise error

    monkeypatch.setattr(openvino_engine, "read", read)
    with pytest.raises(type(error)):
        converted.network(spec)


def test_what_tensorflow_does_not_open_is_another_error(spec, tmp_path):
    (tmp_path / "m" / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(ValueError, match="is not a SavedModel") as error:
        converted.network(dataclasses.replace(spec, files=""))
    assert not isinstance(error.value, converted.NotConvertible)
