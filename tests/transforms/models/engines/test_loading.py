"""transforms.models.engines.loading: pixels in, vectors out, from any thread."""

import concurrent.futures
import dataclasses
import threading

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers.clocks import Clock
from transforms.models import catalog, resolve
from transforms.models.engines import converted, loading, opening, openvino_engine
from transforms.models.engines.fixed_batches import BatchResult, FixedBatches, InferenceError, ModelFailure
from transforms.models.preprocessing import Choices


@pytest.fixture(scope="module")
def loaded(model):
    return loading.load(model)


def test_shapes_and_types(loaded):
    for count in (1, 2, 7):
        vectors = loaded(np.zeros((count, 224, 224, 3), np.uint8))
        assert vectors.shape == (count, 1280) and vectors.dtype == np.float32


def test_the_bundled_model_takes_another_image_size():
    model = loading.load(catalog.bundled("efficientnet_lite0", Choices(image_size=(96, 160))))
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
    return resolve.resolve(str(directory), Choices((16, 16)))


def test_what_openvino_does_not_take_tensorflow_runs(tmp_path, nothing_kept, caplog):
    found = _saved(tmp_path / "m", _Means(lambda x: tf.strings.to_number(tf.strings.as_string(x, precision=9))))
    pixels = np.full((3, 16, 16, 3), 51, np.uint8)
    np.testing.assert_allclose(loading.load(found)(pixels), 0.2, atol=1e-6)
    assert "TensorFlow runs this model because OpenVINO cannot: " in caplog.text
    if "bfloat16" in openvino_engine.precisions():
        with pytest.raises(ValueError, match="precision='bfloat16': OpenVINO cannot run this model"):
            loading.load(dataclasses.replace(found, precision="bfloat16"))


def test_a_model_whose_shapes_depend_on_the_pixels_goes_on_after_an_image_on_which_it_raises(tmp_path, nothing_kept):
    def none_bright(means):  # only no vector at all has the shape that is asked for
        return means + tf.reduce_sum(tf.reshape(tf.boolean_mask(means, means[:, 0] > 0.9), [0]))

    spec = _saved(tmp_path / "m", _Means(none_bright))
    dark = np.full((3, 16, 16, 3), 51, np.uint8)
    model = loading.load(spec)
    for _ in range(2):
        vectors, errors, *_ = model.timed(np.concatenate([dark, np.full_like(dark[:1], 255)]))
        np.testing.assert_allclose(vectors, np.full((3, 3), 0.2), atol=1e-6)
        assert list(errors) == [3]


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
    found = resolve.resolve(str(inception_resnet_v2.output), Choices((75, 75)))
    assert openvino_engine.images_per_call(converted.network(found)) == 1


def test_who_waits_for_a_turn_is_told_how_long(monkeypatch):
    clock, running = Clock(), threading.Event()
    monkeypatch.setattr(loading, "time", clock)

    def run(pixels):
        if not running.is_set():
            running.set()
            clock.wait_for_reads(3)  # twice by the first, once by the second: it has come
            clock.now = 5.0
        return BatchResult(np.zeros((len(pixels), 4), np.float32), {})

    model = loading.EmbeddingModel([run], calls_at_once=1)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        first = threads.submit(model.timed, np.zeros((1, 2, 2, 3), np.uint8))
        assert running.wait(60)
        assert model.timed(np.zeros((1, 2, 2, 3), np.uint8)).waited == 5.0
        assert first.result().waited == 0.0


def test_batches_go_to_whichever_device_is_free():
    """One device is busy until the other one has taken all other batches."""
    others_done, slow_began = threading.Event(), threading.Event()
    taken = {"slow": 0, "quick": 0}

    def slow(pixels):
        taken["slow"] += 1
        slow_began.set()
        assert others_done.wait(60)
        return BatchResult(np.zeros((len(pixels), 4), np.float32), {})

    def quick(pixels):
        taken["quick"] += 1
        return BatchResult(np.zeros((len(pixels), 4), np.float32), {})

    model = loading.EmbeddingModel([slow, quick], calls_at_once=1)
    assert model.calls_at_once == 2
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        first = threads.submit(model.timed, np.zeros((1, 2, 2, 3), np.uint8))
        assert slow_began.wait(60)
        for _ in range(5):
            model.timed(np.zeros((1, 2, 2, 3), np.uint8))
        others_done.set()
        first.result(60)
    assert taken == {"slow": 1, "quick": 5}


def dark_only(pixels):
    """A model that raises over images that are not black."""
    if pixels.any():
        raise InferenceError("InvalidArgumentError: too bright")
    return np.zeros((len(pixels), 4), np.float32)


def images(*values):
    return np.stack([np.full((2, 2, 3), value, np.uint8) for value in values])


def test_a_model_that_embeds_neither_an_image_nor_a_mosaic_fails_the_job():
    model = loading.EmbeddingModel([FixedBatches(dark_only, 8)], calls_at_once=1)
    model(images(0))  # a call that warms the model up proves nothing
    assert sorted(model.timed(images(*[9] * 31)).errors) == list(range(31))
    for count in (32, 33):  # again, if the bundle is tried again
        message = (
            f"the model fails on every image, {count} so far and a mosaic of random colours: InvalidArgumentError: "
        )
        with pytest.raises(ModelFailure, match=message):
            model.timed(images(9))


def test_images_are_at_fault_if_the_model_embeds_a_mosaic():
    calls = []

    def not_nine(pixels):
        calls.append(1)
        if (pixels == 9).all(axis=(1, 2, 3)).any():
            raise InferenceError("InvalidArgumentError: nine")
        return np.zeros((len(pixels), 4), np.float32)

    model = loading.EmbeddingModel([FixedBatches(not_nine, 1)], calls_at_once=1)
    for _ in range(3):
        assert len(model.timed(images(*[9] * 40)).errors) == 40
    assert len(calls) == 3 * 80 + 1  # each image and a black one, and the mosaic once


@pytest.mark.parametrize("values", [[9], [9] * 100 + [0]], ids=["one image", "one good image after a hundred"])
def test_a_model_that_has_not_failed_on_all_of_many_images_works(values):
    model = loading.EmbeddingModel([FixedBatches(dark_only, 8)], calls_at_once=1)
    call = model.timed(images(*values))
    assert len(call.vectors) == values.count(0) and len(call.errors) == values.count(9)


def test_a_model_that_has_embedded_an_image_may_fail_on_any_number_of_others():
    model = loading.EmbeddingModel([FixedBatches(dark_only, 8)], calls_at_once=1)
    model.timed(images(9, 0))
    for _ in range(5):
        assert len(model.timed(images(*[9] * 32)).errors) == 32


def test_without_timing_an_image_on_which_the_model_raises_is_an_error():
    model = loading.EmbeddingModel([FixedBatches(dark_only, 8)], calls_at_once=1)
    with pytest.raises(ValueError, match="the model fails on image 2 of 3: InvalidArgumentError: too bright"):
        model(images(0, 0, 9))

    def broken(pixels):
        raise InferenceError("InternalError: no kernel")

    model = loading.EmbeddingModel([FixedBatches(broken, 8)], calls_at_once=1)
    with pytest.raises(ValueError, match="the model fails on every image, a black one too: InternalError: no kernel"):
        model(images(0))


def test_every_known_name_has_a_loader():
    for name in catalog.BUNDLED:
        assert name in opening._BUNDLED
        assert openvino_engine.bundled(name, catalog.BUNDLED[name].image_size)


def test_a_call_that_fails_gives_its_turn_back():
    def broken(pixels):
        raise MemoryError

    model = loading.EmbeddingModel([broken], calls_at_once=1)
    for _ in range(3):  # a turn that was lost would be waited for
        for call in (model, model.timed):
            with pytest.raises(MemoryError):
                call(images(0))
    assert model._free.qsize() == 1


def test_the_device_is_named_by_whoever_knows_it(monkeypatch):
    monkeypatch.setattr(loading.device, "name", lambda: "GPU of TensorFlow's")
    run = FixedBatches(dark_only, 8)
    assert loading.EmbeddingModel([run], 1).timed(images(0)).device == "GPU of TensorFlow's"
    assert loading.EmbeddingModel([run], 1, "engine", "CPU").timed(images(0)).device == "CPU"
