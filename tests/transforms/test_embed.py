"""transforms.embed: the handler's contract, vectors equal to a direct call's, and a vector that is none."""

import pickle

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from tests import data_generation as data
from transforms import counters, embed
from transforms.embed import EmbeddingModelHandler, EmbedImages, Prediction, image_seconds
from transforms.images import decoding
from transforms.models.engines import device, loading
from transforms.models.engines.loading import ModelCall
from transforms.records import DecodedImage, ImageInfo, ImageRef
from transforms.stage import StageOutput, with_stage_outputs

pytestmark = pytest.mark.slow


def decoded(count, size=(224, 224)):
    return [
        DecodedImage(
            ImageInfo(ImageRef(b"%d" % seed, "v"), "s", "jpeg", 1, 1), decoding.decode(data.jpeg(seed), size).pixels
        )
        for seed in range(count)
    ]


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_vectors_equal_a_direct_call(model, batch_size):
    given = decoded(7)
    direct = loading.load(model)(np.stack([image.pixels for image in given]))
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | beam.Create(given) | EmbedImages(model, batch_size)

        def check(embeddings):
            found = {embedding.info.ref.key: embedding.vector for embedding in embeddings}
            assert sorted(found) == [image.info.ref.key for image in given]
            for image, vector in zip(given, direct, strict=True):
                # float32 sums in another order, in batches of another size
                np.testing.assert_allclose(found[image.info.ref.key], vector, rtol=0, atol=2e-5 * np.abs(direct).max())

        assert_that(outputs.main, check)


def test_the_handler_drops_the_pixels_and_batches_as_told(model):
    handler = EmbeddingModelHandler(model, batch_size=5)
    assert handler.batch_elements_kwargs() == {"min_batch_size": 5, "max_batch_size": 5}
    assert not handler.share_model_across_processes()
    predictions = handler.run_inference(decoded(2), handler.load_model())
    assert [(p.info.ref.key, p.vector.shape, p.vector.dtype) for p in predictions] == [
        (b"0", (1280,), np.float32),
        (b"1", (1280,), np.float32),
    ]
    times = {time.stage: time for time in predictions[0].seconds}
    assert 0 < times["embed"].seconds < 60 and times["embed"].calls == 1 / 2 and times["load"].seconds > 0
    assert times["embed"].device in ("CPU", device.name())


def test_sizes_and_times_of_batches_are_distributions_among_our_metrics(model):
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | beam.Create(decoded(7), reshuffle=False) | EmbedImages(model, 3)
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


def test_waiting_and_loading_are_counted_by_image(model):
    call = ModelCall(np.ones((2, 4), np.float32), waited=0.25, loading=3.0, device="GPU NVIDIA L4")
    info = ImageInfo(ImageRef(b"a", "v"), "s", "jpeg", 1, 1)
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        predictions = pipeline | beam.Create([Prediction(info, np.ones(4, np.float32), image_seconds(call, 0.5))])
        outputs = StageOutput.of(predictions | with_stage_outputs(embed._Check()))
        found = outputs.seconds | beam.Map(lambda busy: (busy.stage, busy.seconds, busy.calls, busy.device))
        assert_that(
            found, equal_to([("embed", 0.25, 0.5, "GPU NVIDIA L4"), ("wait", 0.125, 0.5, ""), ("load", 1.5, 0.5, "")])
        )


def test_what_travels_is_small(model):
    assert len(pickle.dumps(EmbeddingModelHandler(model))) < 2000


def test_a_model_of_another_dimension_fails_the_job(model):
    handler = EmbeddingModelHandler(model)
    with pytest.raises(ValueError, match=r"gave vectors of shape \(2, 7\): expected \(2, 1280\)"):
        handler.run_inference(
            decoded(2), loading.EmbeddingModel(lambda pixels: np.zeros((len(pixels), 7), np.float32), 1)
        )


def test_a_vector_that_is_not_finite_is_a_failure_of_its_image():
    good, bad = np.ones(4, np.float32), np.array([1, np.nan, 1, 1], np.float32)
    info = ImageInfo(ImageRef(b"good", "v"), "s", "jpeg", 1, 1), ImageInfo(ImageRef(b"bad", "v"), "s", "jpeg", 1, 1)
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        predictions = pipeline | beam.Create([Prediction(info[0], good, ()), Prediction(info[1], bad, ())])
        outputs = StageOutput.of(predictions | with_stage_outputs(embed._Check()))
        keys = outputs.main | "Keys" >> beam.Map(lambda embedding: embedding.info.ref.key)
        failed = outputs.failures | "Failed" >> beam.Map(lambda failure: (failure.key, failure.stage, failure.error))
        assert_that(keys, equal_to([b"good"]), label="keys")
        assert_that(failed, equal_to([(b"bad", "embed", "NonFiniteVector")]), label="failed")
