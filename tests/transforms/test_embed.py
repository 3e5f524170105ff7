"""transforms.embed: the handler's contract, vectors equal to a direct call's, and a vector that is none."""

import concurrent.futures
import dataclasses
import pickle
import time

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.utils.multi_process_shared import MultiProcessShared

from tests.helpers import data_generation as data
from transforms import embed
from transforms.concurrent import process_meter
from transforms.elements import counters
from transforms.elements.records import DecodedBlock, Embedding, Failure, ImageInfo, ImageRef
from transforms.elements.stage import StageOutput, with_stage_outputs
from transforms.embed import BUNDLE, EmbeddingModelHandler, EmbedImages, Prediction, call_seconds
from transforms.images import decoding
from transforms.models.engines import device, loading
from transforms.models.engines.fixed_batches import (
    BatchResult,
    FixedBatches,
    InferenceError,
    ModelFailure,
    OutOfDeviceMemory,
)
from transforms.models.engines.lazy import LazyModel
from transforms.models.engines.loading import ModelCall

pytestmark = pytest.mark.slow


def info(key):
    return ImageInfo(ImageRef(key, "v"), "s", "jpeg", 1, 1)


def decoded(count, size=(224, 224)):
    infos = tuple(info(b"%d" % seed) for seed in range(count))
    return DecodedBlock(infos, np.stack([decoding.decode(data.jpeg(seed), size).pixels for seed in range(count)]))


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_vectors_equal_a_direct_call(model, batch_size):
    block = decoded(7)
    direct = loading.load(model)(block.pixels)
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | beam.Create([block]) | EmbedImages(model, batch_size)

        def check(embeddings):
            found = {embedding.info.ref.key: embedding.vector for embedding in embeddings}
            assert sorted(found) == [info.ref.key for info in block.infos]
            for info, vector in zip(block.infos, direct, strict=True):
                # float32 sums in another order, in batches of another size
                np.testing.assert_allclose(found[info.ref.key], vector, rtol=0, atol=2e-5 * np.abs(direct).max())

        assert_that(outputs.main, check)


def test_the_handler_drops_the_pixels_and_takes_a_block_as_a_batch(model):
    handler = EmbeddingModelHandler(model, batch_size=5)
    assert handler.should_skip_batching() and not handler.share_model_across_processes()
    block = decoded(2)
    (prediction,) = handler.run_inference(block, handler.load_model())
    assert prediction.infos == block.infos and prediction.errors == {}
    assert (prediction.vectors.shape, prediction.vectors.dtype) == ((2, 1280), np.float32)
    times = {time.stage: time for time in prediction.seconds}
    assert 0 < times["embed"].seconds < 60 and (times["embed"].items, times["embed"].calls) == (2, 1)
    assert times["load"].seconds > 0
    assert times["embed"].device in ("CPU", device.name())


def test_sizes_and_times_of_batches_are_distributions_among_our_metrics(model):
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | beam.Create([decoded(4), decoded(3)], reshuffle=False) | EmbedImages(model, 3)
    found = pipeline.result.metrics().query(MetricsFilter().with_namespace(counters.NAMESPACE))["distributions"]
    by_name = {metric.key.metric.name: metric.committed for metric in found}
    assert by_name["inference_request_batch_size"].sum == 7
    assert by_name["inference_request_batch_byte_size"].sum == 7 * 224 * 224 * 3
    assert by_name["inference_batch_latency_micro_secs"].min > 0


def test_a_gpu_that_was_asked_for_and_is_not_there_fails_before_any_image(model):
    handler = EmbeddingModelHandler(model, needs_gpu=True)
    if device.has_gpu():
        handler.load_model()
    else:
        with pytest.raises(RuntimeError, match="a GPU was asked for and TensorFlow finds none"):
            handler.load_model()


def test_a_portable_model_needs_an_engine_for_the_gpu(model):
    handler = EmbeddingModelHandler(dataclasses.replace(model, format="openvino"), needs_gpu=True)
    with pytest.raises(RuntimeError, match="openvino models run on CPUs only: give a model in ONNX"):
        handler.load_model()


def test_waiting_and_loading_are_counted_by_image(model):
    errors = {0: InferenceError("too bright")}  # its time counts too
    call = ModelCall(np.ones((1, 4), np.float32), errors, waited=0.25, loading=3.0, device="GPU NVIDIA L4")
    both = Prediction((info(b"a"), info(b"b")), call.vectors, call.errors, call_seconds(call, 2, 0.5))
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        predictions = pipeline | beam.Create([both])
        outputs = StageOutput.of(predictions | with_stage_outputs(embed._Check(), Embedding))
        times = outputs.seconds | beam.Map(lambda busy: (busy.stage, busy.items, busy.seconds, busy.calls, busy.device))
        of_call = times | beam.Filter(lambda time: time[0] != BUNDLE)
        expected = [("embed", 2, 0.5, 1, "GPU NVIDIA L4"), ("wait", 2, 0.25, 1, ""), ("load", 2, 3.0, 1, "")]
        assert_that(of_call, equal_to(expected))


def _work(_):
    until = time.thread_time() + 0.2
    while time.thread_time() < until:
        pass


def test_a_bundle_counts_what_its_process_does_outside_the_model():
    """Work of 0.2 s before the model, and a model that works for 0.5 s in the same thread."""
    images = info(b"a"), info(b"b")

    def predict(_):
        with process_meter.METER.model_call():
            until = time.thread_time() + 0.5
            while time.thread_time() < until:
                pass
        return Prediction(images, np.ones((2, 4), np.float32), {}, ())

    with TestPipeline(runner=FnApiRunner()) as pipeline:
        predictions = pipeline | beam.Create([None]) | beam.Map(_work) | beam.Map(predict)
        outputs = StageOutput.of(predictions | with_stage_outputs(embed._Check(), Embedding))
        times = outputs.seconds | beam.Map(
            lambda busy: (busy.stage, busy.items, busy.calls, busy.seconds >= 0.7, 0.2 <= busy.core_seconds < 0.5)
        )
        assert_that(times, equal_to([(BUNDLE, 2, 1, True, True)]))


def test_what_travels_is_small(model):
    assert len(pickle.dumps(EmbeddingModelHandler(model))) < 2000


def test_a_model_of_another_dimension_fails_the_job(model):
    handler = EmbeddingModelHandler(model)
    with pytest.raises(ValueError, match=r"gave vectors of shape \(2, 7\): expected \(2, 1280\)"):
        handler.run_inference(
            decoded(2),
            loading.EmbeddingModel([lambda pixels: BatchResult(np.zeros((len(pixels), 7), np.float32), {})], 1),
        )


def dark_only(pixels):
    """A model of 1280 dimensions, whose components are the first byte, and that raises over 9."""
    if (pixels == 9).any():
        raise InferenceError("InvalidArgumentError: too bright")
    return np.repeat(pixels[:, 0, 0, :1], 1280, axis=1).astype(np.float32)


def numbered(count):
    """Returns images of one value each, from 0 to `count` - 1, which is their key too."""
    infos = tuple(ImageInfo(ImageRef(b"%d" % value, "v"), "s", "png", 2, 2) for value in range(count))
    return DecodedBlock(infos, np.stack([np.full((2, 2, 3), value, np.uint8) for value in range(count)]))


@pytest.fixture
def raises_over_nine(model, monkeypatch):
    """The model's description; loading it gives `dark_only`."""
    monkeypatch.setattr(loading, "load", lambda *_: loading.EmbeddingModel([FixedBatches(dark_only, 8)], 1))
    return model


@pytest.mark.parametrize("share", [False, True], ids=["threads share the model", "processes share the model"])
def test_an_image_on_which_the_model_raises_is_a_failure_and_the_others_are_embedded(raises_over_nine, share):
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        blocks = pipeline | beam.Create([numbered(20)])
        outputs = blocks | EmbedImages(raises_over_nine, batch_size=32, share_model_across_processes=share)
        vectors = outputs.main | "Vectors" >> beam.Map(lambda e: (e.info.ref.key, e.vector.min(), e.vector.max()))
        expected = [(b"%d" % value, value, value) for value in range(1, 20) if value != 9]
        assert_that(vectors, equal_to(expected), label="vectors")
        black = Failure(b"0", "embed", "ZeroVector", "the model gave a vector of zeros for this image", False)
        bright = Failure(b"9", "embed", "InferenceError", "InvalidArgumentError: too bright", False)
        assert_that(outputs.failures, equal_to([black, bright]), label="failures")


def test_another_device_may_have_memory_for_an_image_that_did_not_fit():
    error = OutOfDeviceMemory("ResourceExhaustedError: OOM")
    prediction = Prediction(numbered(1).infos, np.empty((0, 4), np.float32), {0: error}, ())
    check = embed._Check()
    check.start_bundle()
    (output,) = check.process(prediction)
    assert output.value == Failure(b"0", "embed", "OutOfDeviceMemory", "ResourceExhaustedError: OOM", True)


def test_a_model_that_fails_arrives_as_such_from_another_process():
    def load():
        return LazyModel(lambda: loading.EmbeddingModel([broken], 1))

    def broken(pixels):
        raise ModelFailure("the model fails on every image, a black one too: lost")

    shared = MultiProcessShared(load, tag="test_a_model_that_fails", always_proxy=True)
    model = shared.acquire()
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        error = threads.submit(model.timed, np.zeros((1, 2, 2, 3), np.uint8)).exception(60)
    shared.release(model)
    assert type(error) is ModelFailure and str(error) == "the model fails on every image, a black one too: lost"


def test_a_vector_that_is_not_finite_is_a_failure_of_its_image():
    infos = info(b"raises"), info(b"good"), info(b"bad")
    vectors = np.array([[1, 1, 1, 1], [1, np.nan, 1, 1]], np.float32)
    prediction = Prediction(infos, vectors, {0: InferenceError("too bright")}, ())
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        predictions = pipeline | beam.Create([prediction])
        outputs = StageOutput.of(predictions | with_stage_outputs(embed._Check(), Embedding))
        keys = outputs.main | "Keys" >> beam.Map(lambda embedding: embedding.info.ref.key)
        failed = outputs.failures | "Failed" >> beam.Map(lambda failure: (failure.key, failure.stage, failure.error))
        assert_that(keys, equal_to([b"good"]), label="keys")
        expected = [(b"raises", "embed", "InferenceError"), (b"bad", "embed", "NonFiniteVector")]
        assert_that(failed, equal_to(expected), label="failed")


@pytest.mark.parametrize(("vector_type", "good"), [("float32", [b"good", b"tiny"]), ("float16", [b"good"])])
def test_a_vector_of_zeros_is_a_failure_of_its_image(vector_type, good):
    infos = info(b"good"), info(b"zeros"), info(b"tiny")
    vectors = np.array([[0, 7e4, 0], [0, -0.0, 0], [1e-9, 0, -1e-9]], np.float32)
    check = embed._Check(vector_type)
    check.start_bundle()
    counters.reset()
    outputs = list(check.process(Prediction(infos, vectors, {}, ())))
    assert [each.info.ref.key for each in outputs if isinstance(each, Embedding)] == good
    failures = [each.value for each in outputs if not isinstance(each, Embedding)]
    assert {(failure.key, failure.stage, failure.error, failure.retryable) for failure in failures} == {
        (each.ref.key, "embed", "ZeroVector", False) for each in infos if each.ref.key not in good
    }
    assert counters.of_process()[counters.IMAGES_EMBEDDED] == len(good)


def test_images_cross_to_a_stage_of_its_own_one_by_one(raises_over_nine):
    embed_apart = EmbedImages(dataclasses.replace(raises_over_nine, image_size=(2, 2)), batch_size=3, own_stage=True)
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | beam.Create([numbered(4), numbered(1)], reshuffle=False) | embed_apart
        keys = outputs.main | "Keys" >> beam.Map(lambda e: (e.info.ref.key, e.vector.max()))
        items = outputs.seconds | beam.Filter(lambda busy: busy.stage == "embed") | beam.Map(lambda busy: busy.items)
        assert_that(keys, equal_to([(b"1", 1), (b"2", 2), (b"3", 3)]), label="keys")
        assert_that(items, equal_to([3, 2]), label="items")
