"""transforms.models.engines.tensorflow_engine: functions are frozen where they can be, and errors told apart."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers.running import ROOT
from transforms.models.engines import device, tensorflow_engine
from transforms.models.engines.fixed_batches import InferenceError, OutOfDeviceMemory

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 4, 3, 3), np.uint8)


@pytest.fixture
def scale():
    return tf.Variable(2.0)


@pytest.fixture
def function(scale):
    @tf.function(input_signature=[tf.TensorSpec((None, 4, 3, 3), tf.uint8)])
    def scaled_means(pixels):
        return scale * tf.reduce_mean(tf.cast(pixels, tf.float32), axis=[1, 2])

    return scaled_means.get_concrete_function()


def test_a_function_becomes_one_of_constants(function, scale):
    (run,) = tensorflow_engine.compile_function(function, "float32")
    scale.assign(3.0)
    for pixels in (PIXELS, PIXELS[:1]):
        vectors = run(pixels)
        assert isinstance(vectors, np.ndarray) and vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, 2.0 * pixels.mean(axis=(1, 2)), rtol=1e-6)  # float32 sums of 12 terms


def test_what_cannot_be_frozen_runs_as_it_is(caplog):
    (run,) = tensorflow_engine.compile_function(lambda pixels: tf.reduce_max(pixels, axis=[1, 2]), "float32")
    np.testing.assert_array_equal(run(PIXELS), PIXELS.max(axis=(1, 2)))
    assert "the model runs with variables because it cannot be frozen: " in caplog.text


def test_only_float16_is_mixed(function):
    for precision, is_mixed in (("float16", True), ("float32", False)):
        tensorflow_engine.compile_function(function, precision)
        assert tf.config.optimizer.get_experimental_options()["auto_mixed_precision"] == is_mixed


def test_a_device_without_memory_is_told_from_other_errors():
    def failing(error):
        def function(pixels):
            raise error

        (run,) = tensorflow_engine.compile_function(function, "float32")
        return run

    with pytest.raises(OutOfDeviceMemory, match="^ResourceExhaustedError: OOM when allocating tensor$"):
        failing(tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"))(PIXELS)
    copy = "Failed copying input tensor from CPU:0 to GPU:0 in order to run _EagerConst: Dst tensor is not initialized."
    with pytest.raises(OutOfDeviceMemory, match="^InternalError: Failed copying"):
        failing(tf.errors.InternalError(None, None, copy))(PIXELS)
    with pytest.raises(OutOfDeviceMemory, match="^NotFoundError: No algorithm worked!"):
        failing(tf.errors.NotFoundError(None, None, "No algorithm worked!  Error messages:"))(PIXELS)
    with pytest.raises(InferenceError, match="^InternalError: no kernel$") as error:
        failing(tf.errors.InternalError(None, None, "no kernel"))(PIXELS)
    assert not isinstance(error.value, OutOfDeviceMemory)
    with pytest.raises(MemoryError):
        failing(MemoryError())(PIXELS)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda x: tf.gather(tf.zeros(10), tf.cast(tf.reduce_max(x), tf.int32)), "indices = 255 is not in [0, 10)"),
        (lambda x: 7 // tf.cast(255 - tf.reduce_max(x), tf.int32), "Integer division by zero"),
    ],
    ids=["gather", "division"],
)
def test_an_error_over_pixels_names_no_node_of_the_graph(operation, message):
    function = tf.function(operation, input_signature=[tf.TensorSpec((None, 4, 3, 3), tf.uint8)], autograph=False)
    (run,) = tensorflow_engine.compile_function(function.get_concrete_function(), "float32")
    with pytest.raises(InferenceError) as error:
        run(np.full((1, 4, 3, 3), 255, np.uint8))
    assert str(error.value) == f"InvalidArgumentError: {message}"


def test_too_little_memory_to_freeze_a_function_is_not_taken_for_one_that_cannot_be_frozen(function, monkeypatch):
    def freeze(function):
        raise MemoryError

    monkeypatch.setattr(tensorflow_engine.frozen, "function", freeze)
    with pytest.raises(MemoryError):
        tensorflow_engine.compile_function(function, "float32")


@pytest.mark.parametrize(("has_gpu", "calls"), [(True, 2), (False, 5)])
def test_as_many_calls_as_keep_the_device_busy(monkeypatch, has_gpu, calls):
    monkeypatch.setattr(device, "has_gpu", lambda: has_gpu)
    monkeypatch.setattr(tensorflow_engine, "usable_cores", lambda: 5)
    assert tensorflow_engine.calls_at_once() == calls


TWO_DEVICES = """
import numpy as np
import tensorflow as tf
from transforms.models.engines import tensorflow_engine

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
weight = tf.Variable(2.0)
ran_on = []

@tf.function(input_signature=[tf.TensorSpec((None, 4, 3, 3), tf.uint8)])
def means(pixels):
    return weight * tf.reduce_mean(tf.cast(pixels, tf.float32), axis=[1, 2])

def recorded(pixels):
    output = frozen(pixels)
    ran_on.append((pixels.device[-5:], output[0].device[-5:]))
    return output

function = means.get_concrete_function()
frozen = tensorflow_engine.frozen.function(function)
tensorflow_engine.frozen.function = lambda function: function
runs = tensorflow_engine.compile_function(recorded, "float32", ["/device:CPU:0", "/device:CPU:1"])
print([run(np.full((2, 4, 3, 3), 3, np.uint8)).tolist() for run in (*runs, *runs)], ran_on)
"""


@pytest.mark.slow
def test_each_device_computes_for_itself():
    done = subprocess.run([sys.executable, "-c", TWO_DEVICES], cwd=ROOT, capture_output=True, text=True, check=False)
    vectors = [[[6.0] * 3] * 2] * 4
    ran_on = [("CPU:0", "CPU:0"), ("CPU:1", "CPU:1")] * 2
    assert done.stdout == f"{vectors} {ran_on}\n", done.stderr
