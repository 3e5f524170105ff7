"""transforms.models.networks.slim_network: what surrounds the layers of TF-Slim's networks, in numpy's words."""

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import formula_weights, tiny_network
from tests.helpers.tiny_network import TinyNetwork
from transforms.models.networks.slim_layers import Pass

IMAGES = formula_weights.images(16, 24)
FEATURES = np.random.default_rng(0).normal(0, 1, (5, 6)).astype(np.float32)
MEAN = "Tiny/Conv2d_1a_3x3/BatchNorm/moving_mean"
VARIANCE = "Tiny/Conv2d_1a_3x3/BatchNorm/moving_variance"
CLASSIFIER = {"Tiny/Logits/Logits/weights": (6, 3), "Tiny/Logits/Logits/biases": (3,)}


@pytest.fixture(scope="module")
def weights():
    return tiny_network.weights()


@pytest.fixture(scope="module")
def network(weights):
    return TinyNetwork(weights)


def test_variables_with_and_without_the_classifier():
    features = TinyNetwork.expected_variables(classifier=False)
    assert TinyNetwork.expected_variables() == features | CLASSIFIER
    assert not features.keys() & CLASSIFIER.keys() and MEAN in features


def test_missing_weights_are_named(weights):
    with pytest.raises(ValueError, match=f"no weights '{MEAN}', '{VARIANCE}'"):
        TinyNetwork({name: weights[name] for name in weights.keys() - {MEAN, VARIANCE}})


def test_layers_get_the_range_from_minus_1_to_1_and_their_maps_are_averaged(network, weights):
    run = Pass({name: tf.constant(array) for name, array in weights.items()}, False, tf.constant(0.99))
    maps = TinyNetwork.LAYERS(IMAGES * 2 - 1, "Tiny", run).numpy()
    assert maps.shape[1] > 1
    np.testing.assert_allclose(network(IMAGES), maps.mean(axis=(1, 2)), atol=1e-6)  # float32 sums of 77 terms


@pytest.mark.parametrize("shape", [(0, 3, 3, 3), (1, 2, 3, 3), (1, 3, 2, 3)])
def test_what_leaves_no_pixel_is_an_error(network, shape):
    with pytest.raises(tf.errors.InvalidArgumentError, match="of 3 pixels or more in height and width"):
        network(tf.zeros(shape))
    assert network(tf.zeros((1, 3, 3, 3))).shape == (1, 6)


def test_logits_are_linear_in_the_features(network, weights):
    kernel, biases = (weights[name] for name in CLASSIFIER)
    np.testing.assert_allclose(network.logits(FEATURES), FEATURES @ kernel + biases, atol=1e-6)


def test_a_fifth_of_the_features_is_dropped_in_training():
    weights = tiny_network.weights() | {name: np.zeros(shape) for name, shape in CLASSIFIER.items()}
    weights["Tiny/Logits/Logits/weights"] = np.eye(6, 3)
    tf.random.set_seed(0)
    dropped = TinyNetwork(weights).logits(tf.ones((10_000, 6)), training=True).numpy()
    assert set(np.unique(dropped)) == {0.0, np.float32(1.25)}
    assert (dropped == 0.0).mean() == pytest.approx(0.2, abs=0.02)  # nine standard deviations of 30,000 draws


def test_only_what_is_named_decays(network, weights):
    squares = [np.square(array, dtype=np.float64).sum() for name, array in weights.items() if name.endswith("/weights")]
    assert len(squares) == 3 < len(weights)
    assert float(network.regularization_loss()) == pytest.approx(0.00004 / 2 * sum(squares), rel=1e-6)


def test_averages_are_not_trained(network):
    averages = {variable.name for variable in network.variables if not variable.trainable}
    assert averages == {f"{name}:0" for name in TinyNetwork.expected_variables() if "/moving_" in name}
    for variable in network.variables:
        is_average = variable.name in averages
        assert (variable.aggregation == tf.VariableAggregation.MEAN) == is_average
        assert (variable.synchronization == tf.VariableSynchronization.ON_READ) == is_average
