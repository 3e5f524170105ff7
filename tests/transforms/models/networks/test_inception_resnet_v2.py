"""Inception-ResNet V2 against TF-Slim's own: in memory, and through checkpoint, export and reload."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from tests.helpers import formula_weights
from transforms.models.networks.inception_resnet_v2 import InceptionResNetV2

pytestmark = pytest.mark.slow

NAME = "inception_resnet_v2"
SIZES = [(299, 299), (331, 255)]


@pytest.fixture(scope="module")
def network():
    return InceptionResNetV2(formula_weights.weights(InceptionResNetV2.expected_variables()))


@pytest.fixture(scope="module")
def loaded(inception_resnet_v2):
    return hub.load(str(inception_resnet_v2.output))


def test_variables_are_those_of_the_original_without_its_auxiliary_head():
    original = formula_weights.variables(NAME)
    auxiliary = {name for name in original if "/AuxLogits/" in name}
    assert len(auxiliary) == 10
    assert InceptionResNetV2.expected_variables() == {name: original[name] for name in original.keys() - auxiliary}


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_features_and_logits_agree_with_the_original(network, height, width):
    features = network(formula_weights.images(height, width))
    expected = formula_weights.golden(NAME, f"features_{height}x{width}")
    assert formula_weights.difference(features.numpy(), expected) <= formula_weights.AGREEMENT
    expected = formula_weights.golden(NAME, f"logits_{height}x{width}")
    assert formula_weights.difference(network.logits(features).numpy(), expected) <= formula_weights.AGREEMENT


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_exported_model_agrees_with_the_original(loaded, height, width):
    features = loaded(formula_weights.images(height, width)).numpy()
    expected = formula_weights.golden(NAME, f"features_{height}x{width}")
    assert formula_weights.difference(features, expected) <= formula_weights.AGREEMENT


def test_the_exported_model_agrees_in_a_keras_layer(loaded):
    layer = hub.KerasLayer(loaded, trainable=True, arguments={"batch_norm_momentum": 0.997})
    features = layer(formula_weights.images(299, 299), training=False).numpy()
    expected = formula_weights.golden(NAME, "features_299x299")
    assert formula_weights.difference(features, expected) <= formula_weights.AGREEMENT


def test_the_import_reports_what_it_did(inception_resnet_v2):
    assert (inception_resnet_v2.dimension, inception_resnet_v2.image_size) == (1536, (299, 299))
    assert inception_resnet_v2.parameters == 54_336_736
    counts = {kind: len(names) for kind, names in inception_resnet_v2.ignored.items()}
    assert counts == {"auxiliary head": 10, "classifier": 2, "global step": 1}


def test_weights_and_biases_decay(network):
    weights = formula_weights.weights(InceptionResNetV2.expected_variables())
    squares = [np.square(value, dtype=np.float64).sum() for name, value in weights.items() if "BatchNorm" not in name]
    assert float(network.regularization_loss()) == pytest.approx(0.00004 / 2 * sum(squares), rel=1e-5)


def test_every_weight_gets_a_gradient(network):
    with tf.GradientTape() as tape:
        features = network(formula_weights.images(75, 75), training=True, batch_norm_momentum=1.0)
        loss = tf.reduce_sum(tf.square(features))
    gradients = tape.gradient(loss, network.trainable_variables)
    found = {
        variable.name.removesuffix(":0"): np.abs(gradient.numpy()).max()
        for variable, gradient in zip(network.trainable_variables, gradients, strict=True)
        if gradient is not None
    }
    expected = InceptionResNetV2.expected_variables(classifier=False)
    assert found.keys() == {name for name in expected if "/moving_" not in name}
    assert np.isfinite(list(found.values())).all()


def test_every_average_moves_by_the_momentum(network):
    averages = [variable for variable in network.variables if not variable.trainable]
    assert len(averages) == 2 * 204
    moves = {}
    for momentum in (0.99, 0.997):
        before = [variable.numpy() for variable in averages]
        network(formula_weights.images(75, 75), training=True, batch_norm_momentum=momentum)
        moves[momentum] = [variable.numpy() - old for variable, old in zip(averages, before, strict=True)]
        for variable, old in zip(averages, before, strict=True):
            variable.assign(old)
    for variable, move, smaller in zip(averages, moves[0.99], moves[0.997], strict=True):
        assert np.abs(move).max() > 0, variable.name
        # 0.003 / 0.01 of the way; a move is the difference of two float32 near 1, so good to 1e-7.
        np.testing.assert_allclose(smaller, 0.3 * move, rtol=1e-3, atol=1e-6, err_msg=variable.name)


@pytest.mark.parametrize("shape", [(1, 74, 75, 3), (1, 75, 74, 3), (1, 8, 8, 3), (0, 75, 75, 3)])
def test_images_that_leave_no_pixel_are_an_error_and_no_crash(loaded, shape):
    with pytest.raises(tf.errors.InvalidArgumentError, match="75 pixels or more"):
        loaded.signatures["serving_default"](images=tf.zeros(shape))


def test_the_smallest_image_passes(loaded):
    assert loaded(np.zeros((1, 75, 75, 3), np.float32)).shape == (1, 1536)
