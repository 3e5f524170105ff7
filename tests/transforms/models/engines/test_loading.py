"""transforms.models.engines.loading: pixels in, vectors out, from any thread."""

import concurrent.futures
import dataclasses
import threading

import numpy as np
import pytest
import tensorflow as tf

from tests.clocks import Clock
from transforms.models import catalog, resolve
from transforms.models.engines import converted, loading, opening, openvino_engine


@pytest.fixture(scope="module")
def loaded(model):
    return loading.load(model)


def test_shapes_and_types(loaded):
    for count in (1, 2, 7):
        vectors = loaded(np.zeros((count, 224, 224, 3), np.uint8))
        assert vectors.shape == (count, 1280) and vectors.dtype == np.float32


def test_another_image_size():
    model = loading.load(catalog.bundled("efficientnet_lite0", (96, 160), "stretch"))
    assert model(np.zeros((2, 96, 160, 3), np.uint8)).shape == (2, 1280)


def test_threads_share_a_model(loaded):
    batches = [np.random.default_rng(i).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8) for i in range(8)]
    expected = [loaded(batch) for batch in batches]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for found, alone in zip(pool.map(loaded, batches), expected, strict=True):
            np.testing.assert_allclose(found, alone, rtol=0, atol=2e-5 * np.abs(alone).max())  # order of float32 sums


def test_vectors_are_those_of_tensorflow(loaded, model):
    pixels = np.random.default_rng(0).integers(0, 256, (11, 224, 224, 3), dtype=np.uint8)
    expected = opening.open_model(model)(pixels)
    np.testing.assert_allclose(loaded(pixels), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_without_openvino_tensorflow_runs_the_model(model, monkeypatch):
    monkeypatch.setattr(openvino_engine, "openvino", None)
    loading._load.cache_clear()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    expected = opening.open_model(model)(pixels)
    np.testing.assert_allclose(loading.load(model)(pixels), expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert loading.precisions() == ["float32"]
    with pytest.raises(ValueError, match="precision='bfloat16': this machine computes in float32"):
        loading.load(dataclasses.replace(model, precision="bfloat16"))
    loading._load.cache_clear()


class _Means(tf.Module):
    """Means of the colours, through an operation that OpenVINO may not know."""

    def __init__(self, through=tf.identity):
        self.through = through

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3))])
    def __call__(self, images):
        return self.through(tf.reduce_mean(images, axis=[1, 2]))


@pytest.fixture
def nothing_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("BEAM_IMAGE_EMBEDDINGS_CACHE", str(tmp_path / "kept"))


def _saved(directory, module):
    tf.saved_model.save(module, str(directory))
    return resolve.resolve(str(directory), (16, 16), "stretch")


def test_what_openvino_does_not_take_tensorflow_runs(tmp_path, nothing_kept, caplog):
    found = _saved(tmp_path / "m", _Means(lambda x: tf.strings.to_number(tf.strings.as_string(x, precision=9))))
    pixels = np.full((3, 16, 16, 3), 51, np.uint8)
    np.testing.assert_allclose(loading.load(found)(pixels), 0.2, atol=1e-6)
    assert "TensorFlow runs this model because OpenVINO cannot: " in caplog.text
    if "bfloat16" in openvino_engine.precisions():
        with pytest.raises(ValueError, match="precision='bfloat16': OpenVINO cannot run this model"):
            loading.load(dataclasses.replace(found, precision="bfloat16"))


@pytest.mark.parametrize("wrong", [lambda vectors: vectors * 1.01, lambda vectors: vectors * np.nan])
def test_an_engine_that_gives_other_vectors_is_not_used(tmp_path, nothing_kept, monkeypatch, caplog, wrong):
    right = openvino_engine.compile_network

    def compiled(*args):
        run = right(*args)
        return lambda pixels: wrong(run(pixels))

    monkeypatch.setattr(openvino_engine, "compile_network", compiled)
    found = _saved(tmp_path / "m", _Means())
    np.testing.assert_allclose(loading.load(found)(np.full((3, 16, 16, 3), 51, np.uint8)), 0.2, atol=1e-6)
    assert "its vectors differ from TensorFlow's" in caplog.text
    assert not list(tmp_path.glob("kept/network-*"))


def test_a_large_network_takes_one_image_a_call(model, inception_resnet_v2):
    assert openvino_engine.images_per_call(openvino_engine.bundled(model.name, model.image_size)) == 8
    found = resolve.resolve(str(inception_resnet_v2.output), (75, 75), "stretch")
    assert openvino_engine.images_per_call(converted.network(found)) == 1


def test_who_waits_for_a_turn_is_told_how_long(monkeypatch):
    clock, running = Clock(), threading.Event()
    monkeypatch.setattr(loading, "time", clock)

    def run(pixels):
        if not running.is_set():
            running.set()
            clock.wait_for_reads(3)  # twice by the first, once by the second: it has come
            clock.now = 5.0
        return np.zeros((len(pixels), 4), np.float32)

    model = loading.EmbeddingModel(run, calls_at_once=1)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        first = threads.submit(model.timed, np.zeros((1, 2, 2, 3), np.uint8))
        assert running.wait(60)
        assert model.timed(np.zeros((1, 2, 2, 3), np.uint8)).waited == 5.0
        assert first.result().waited == 0.0


def test_every_known_name_has_a_loader():
    for name in catalog.BUNDLED:
        assert name in opening._BUNDLED
        assert openvino_engine.bundled(name, catalog.BUNDLED[name].image_size)
