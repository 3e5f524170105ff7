"""transforms.models.engines.graph_start: the constants by which a graph first multiplies its input."""

import keras
import pytest
import tensorflow as tf

from transforms.models.engines import graph_start

IMAGES = tf.TensorSpec((None, 4, 4, 3), tf.float32)


def factors(function, spec=IMAGES):
    return graph_start.factors(tf.function(function, input_signature=[spec], autograph=False).get_concrete_function())


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x * 0.5, [0.5]),
        (lambda x: 0.5 * x, [0.5]),
        (lambda x: x / 255.0, [1 / 255]),
        (lambda x: (x - 127.0) / 128.0, [1 / 128]),
        (lambda x: (x / 255.0) * 2.0 - 1.0, [1 / 255, 2.0]),
        (lambda x: (x - [1.0, 2.0, 3.0]) * [0.5, 0.25, 0.125], [0.5]),
        (lambda x: x / 255.0 / [0.5, 0.25, 0.2], [1 / 255, 5.0]),
        (lambda x: tf.transpose(x, [0, 3, 1, 2]) * 0.5, [0.5]),
        (lambda x: tf.nn.relu(x) * 0.5, []),
        (lambda x: 255.0 / x, []),
        (lambda x: x * 0.5 + tf.reduce_mean(x), []),  # two operations take it
        (lambda x: x * tf.random.uniform(()), []),
        (lambda x: tf.identity(x), []),
    ],
)
def test_factors(function, expected):
    assert factors(function) == pytest.approx(expected)


def test_bytes_are_cast():
    images = tf.TensorSpec((None, 4, 4, 3), tf.uint8)
    assert factors(lambda x: tf.cast(x, tf.float32) / 255.0, images) == pytest.approx([1 / 255])


@pytest.mark.parametrize("is_exported", [False, True])
def test_the_normalization_of_keras(tmp_path, is_exported):
    normalization = keras.layers.Normalization(mean=[120.0, 110, 100], variance=[3600.0, 2500, 2500])
    model = keras.Sequential([keras.Input((4, 4, 3)), normalization, keras.layers.Conv2D(4, 3)])
    if is_exported:
        model.export(tmp_path, verbose=False)
        loaded = tf.saved_model.load(str(tmp_path))
        model = loaded.serve
    assert factors(lambda x: model(x / 255.0)) == pytest.approx([1 / 255, 1 / 50])


def test_functions_in_functions(tmp_path):
    """Those of a SavedModel, with a variable."""
    module = tf.Module()
    module.kernel = tf.Variable(tf.ones((3, 2)))
    inner = tf.function(lambda x: tf.reduce_mean(x * (1 / 127.5) - 1.0, [1, 2]) @ module.kernel)
    module.__call__ = tf.function(lambda x: inner(x), input_signature=[IMAGES])
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    assert factors(lambda x: loaded(x / 255.0)) == pytest.approx([1 / 255, 1 / 127.5])
