"""Inception V2 against TF-Slim's own: in memory, and through checkpoint, export and reload; and in training."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

from tests.helpers import formula_weights
from transforms.models.networks.inception_v2 import InceptionV2

pytestmark = pytest.mark.slow

NAME = "inception_v2"
KEYS = {"feature_vector": "features_224x224", "classification": "logits_224x224"}


@pytest.fixture(scope="module")
def network():
    return InceptionV2(formula_weights.weights(InceptionV2.expected_variables()))


def test_variables_are_those_of_the_original():
    assert InceptionV2.expected_variables() == formula_weights.variables(NAME)


def test_features_and_logits_agree_with_the_original(network):
    features = network(formula_weights.images(224, 224))
    expected = formula_weights.golden(NAME, KEYS["feature_vector"])
    assert formula_weights.difference(features.numpy(), expected) <= formula_weights.AGREEMENT
    expected = formula_weights.golden(NAME, KEYS["classification"])
    assert formula_weights.difference(network.logits(features).numpy(), expected) <= formula_weights.AGREEMENT


@pytest.mark.parametrize("head", KEYS)
def test_the_exported_model_agrees_with_the_original(inception_v2, head):
    images = formula_weights.images(224, 224)
    expected = formula_weights.golden(NAME, KEYS[head])
    loaded = hub.load(str(inception_v2[head].output))
    assert formula_weights.difference(loaded(images).numpy(), expected) <= formula_weights.AGREEMENT
    served = loaded.signatures[f"image_{head}"](images=tf.constant(images))["default"]
    assert formula_weights.difference(served.numpy(), expected) <= formula_weights.AGREEMENT
    layer = hub.KerasLayer(loaded)
    assert formula_weights.difference(layer(images).numpy(), expected) <= formula_weights.AGREEMENT


def test_images_of_any_size(inception_v2):
    loaded = hub.load(str(inception_v2["feature_vector"].output))
    for height, width in ((320, 240), (33, 64), (1, 1)):
        assert loaded(formula_weights.images(height, width)).shape == (2, 1024)


def test_the_weights_of_its_convolutions_decay(network):
    weights = formula_weights.weights(InceptionV2.expected_variables())
    squares = [np.square(value, dtype=np.float64).sum() for name, value in weights.items() if name.endswith("/weights")]
    assert len(squares) == 69
    assert float(network.regularization_loss()) == pytest.approx(0.00004 / 2 * sum(squares), rel=1e-5)


def test_fine_tuning_in_keras_lowers_the_loss(inception_v2):
    layer = hub.KerasLayer(
        str(inception_v2["feature_vector"].output), trainable=True, arguments={"batch_norm_momentum": 0.997}
    )
    model = tf_keras.Sequential([layer, tf_keras.layers.Dense(2, kernel_initializer="zeros")])
    model.compile(tf_keras.optimizers.SGD(0.0001), tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    kernel = next(variable for variable in layer.trainable_variables if "Conv2d_1a_7x7/depthwise" in variable.name)
    before = kernel.numpy()
    images = formula_weights.images(64, 64)
    losses = model.fit(images, np.array([0, 1]), epochs=3, verbose=0).history["loss"]
    assert losses[0] > losses[1] > losses[2]
    assert np.any(kernel.numpy() != before)
