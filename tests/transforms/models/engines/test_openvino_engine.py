"""transforms.models.engines.openvino_engine: networks of OpenVINO's, compiled for one shape, on any CPU."""

import concurrent.futures
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers.running import ROOT
from transforms.models.engines import openvino_engine
from transforms.models.engines.fixed_batches import InferenceError

openvino = pytest.importorskip("openvino")
ops = pytest.importorskip("openvino.opset8")

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)


def means_network(*constants):
    """Returns a network of the means of the colours, with `constants` as further outputs."""
    images = ops.parameter([-1, -1, -1, 3], np.uint8, name="images")
    means = ops.reduce_mean(ops.convert(images, np.float32), np.array([1, 2]))
    return openvino.Model([means, *map(ops.constant, constants)], [images])


def compiled(network, batch_size):
    return openvino_engine.compile_network(network, PIXELS.shape[1:3], batch_size, "float32", 1)


def test_one_network_is_compiled_for_several_shapes():
    network = means_network()
    for batch_size in (4, 1):
        vectors = compiled(network, batch_size)(PIXELS[:batch_size])
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, PIXELS[:batch_size].mean(axis=(1, 2)), rtol=1e-6)  # sums of 30 integers
    assert network.input().partial_shape.is_dynamic


def test_a_call_leaves_the_vectors_of_the_last_alone():
    run = compiled(means_network(), 1)
    first = run(PIXELS[:1])
    run(PIXELS[1:2])
    np.testing.assert_allclose(first, PIXELS[:1].mean(axis=(1, 2)), rtol=1e-6)


def test_threads_at_once_get_their_own_vectors():
    run = openvino_engine.compile_network(means_network(), (500, 500), 1, "float32", 2)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for value, vectors in enumerate(threads.map(lambda i: run(np.full((1, 500, 500, 3), i, np.uint8)), range(100))):
            np.testing.assert_allclose(vectors, value, atol=0.4)  # those of another thread are 1 away


def test_pixels_that_are_no_array_of_their_own():
    """Those that come from another process may not be written, and those of a slice may have gaps."""
    run = compiled(means_network(), 4)
    from_bytes = np.frombuffer(PIXELS.tobytes(), np.uint8).reshape(PIXELS.shape)
    with_gaps = np.repeat(PIXELS, 2, axis=0)[::2]
    for pixels in (from_bytes, with_gaps, PIXELS.swapaxes(1, 2).copy().swapaxes(1, 2)):
        np.testing.assert_allclose(run(pixels), PIXELS.mean(axis=(1, 2)), rtol=1e-6)  # sums of 30 integers


def test_an_error_is_told_in_one_line_and_the_next_batch_is_embedded():
    run = compiled(means_network(), 4)
    with pytest.raises(InferenceError, match=r"\ARuntimeError: .*incompatible.*\Z") as error:
        run(PIXELS[:1])
    assert ".cpp" not in str(error.value)
    np.testing.assert_allclose(run(PIXELS), PIXELS.mean(axis=(1, 2)), rtol=1e-6)  # sums of 30 integers


def test_a_network_whose_shapes_depend_on_the_pixels_is_refused():
    images = ops.parameter([-1, -1, -1, 3], np.uint8, name="images")
    bright = ops.non_zero(ops.greater(images, ops.constant(np.uint8(200))))
    network = openvino.Model([ops.reduce_sum(ops.convert(bright, np.float32), np.array([1]))], [images])
    with pytest.raises(ValueError, match="shapes inside the network depend on the pixels"):
        compiled(network, 4)


@pytest.mark.parametrize(("weights", "images"), [(10_000_000, 8), (10_000_001, 1)])
def test_a_large_network_takes_one_image_a_call(weights, images):
    axes = 2  # which `means_network` averages over: constants too
    network = means_network(np.zeros(weights - axes, np.uint8))
    assert openvino_engine.images_per_call(network) == images


def graph(*outputs):
    """Returns a serialized GraphDef from images to the means over the axes of each of `outputs`."""
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.uint8, (None, 5, 6, 3), "images")
        for axes in outputs:
            tf.reduce_mean(tf.cast(images, tf.float32), axes)
    return graph.as_graph_def().SerializeToString()


def test_a_graph_of_tensorflows_is_read():
    vectors = compiled(openvino_engine.read(graph([1, 2])), 4)(PIXELS)
    np.testing.assert_allclose(vectors, PIXELS.mean(axis=(1, 2)), rtol=1e-6)


def test_a_graph_with_two_outputs_is_refused():
    with pytest.raises(ValueError, match="the graph has 1 inputs and 2 outputs: expected one each"):
        openvino_engine.read(graph([1, 2], [1]))


class _Library:
    """OpenVINO on a CPU with these capabilities."""

    __version__ = "1.2.3"

    def __init__(self, *capabilities):
        self.properties = {
            ("CPU", "OPTIMIZATION_CAPABILITIES"): list(capabilities),
            ("CPU", "FULL_DEVICE_NAME"): "a processor",
        }

    def get_property(self, *name):
        return self.properties[name]


@pytest.mark.parametrize(
    ("library", "precisions"),
    [
        (None, []),
        (_Library("FP32", "INT8"), ["float32"]),
        (_Library("FP32", "BF16"), ["float32", "bfloat16"]),
    ],
    ids=["no OpenVINO", "without bfloat16", "with bfloat16"],
)
def test_bfloat16_is_computed_where_the_processor_has_it(monkeypatch, library, precisions):
    monkeypatch.setattr(openvino_engine, "openvino", library)
    monkeypatch.setattr(openvino_engine, "core", lambda: library)
    assert openvino_engine.precisions() == precisions


def test_the_reason_of_an_error_is_its_last_line():
    assert openvino_engine.reason(RuntimeError("Check failed at src/a.cpp:7:\n-- no such operation\n")) == (
        "no such operation"
    )
    assert openvino_engine.reason(RuntimeError("")) == "RuntimeError"


def test_openvino_is_told_the_precision_and_how_many_calls_there_are_at_once(monkeypatch):
    told = {}
    core = types.SimpleNamespace(compile_model=lambda network, device, settings: told.update(settings))
    monkeypatch.setattr(openvino_engine, "core", lambda: core)
    openvino_engine.compile_network(means_network(), (5, 6), 1, "bfloat16", 3)
    assert (told["INFERENCE_PRECISION_HINT"], told["NUM_STREAMS"]) == ("bf16", "3")


def test_kernels_depend_on_the_version_and_the_processor(monkeypatch):
    library = _Library()
    monkeypatch.setattr(openvino_engine, "openvino", library)
    monkeypatch.setattr(openvino_engine, "core", lambda: library)
    assert openvino_engine.identity() == "openvino 1.2.3 a processor"


_SIGNAL_AFTER_A_MODEL = """
import os, signal, sys, threading
from transforms.models.engines import openvino_engine
network = openvino_engine.bundled("efficientnet_lite0", (64, 64))
compiled = [openvino_engine.compile_network(network, (64, 64), 1, "float32", 1)]
del network
thread = threading.Thread(target=compiled.clear)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_after_another_thread_has_dropped_the_model():
    """It ended the process: the plugin for CPUs had unmapped the stack of the signal handlers."""
    assert subprocess.run([sys.executable, "-c", _SIGNAL_AFTER_A_MODEL], cwd=ROOT, timeout=120).returncode == 7
