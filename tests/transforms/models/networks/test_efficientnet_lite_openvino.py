"""transforms.models.networks.efficientnet_lite_openvino: the network that TensorFlow builds, of the same weights."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from transforms.models import catalog
from transforms.models.networks import efficientnet_lite_openvino
from transforms.models.networks.efficientnet_lite import EfficientNetLite0

openvino = pytest.importorskip("openvino")

GOLDEN = Path(__file__).parents[3] / "golden" / "efficientnet_lite0.npz"


@pytest.fixture(scope="module")
def images():
    with np.load(GOLDEN) as golden:
        return golden["images"]


@pytest.fixture(scope="module")
def weights():
    return catalog.weights("efficientnet_lite0")


def vectors_of(weights, pixels):
    network = efficientnet_lite_openvino.model(weights, pixels.shape[1:3])
    return openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([pixels])[0]


@pytest.mark.parametrize("size", [(224, 224), (97, 160)])
def test_openvino_builds_the_same_network(weights, images, size):
    pixels = images[:, : size[0], : size[1]]
    expected = EfficientNetLite0(weights)(tf.constant(pixels, tf.float32) / 255).numpy()
    np.testing.assert_allclose(vectors_of(weights, pixels), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_missing_weights_are_named(weights):
    with pytest.raises(KeyError, match="head/gamma"):
        efficientnet_lite_openvino.model({name: weights[name] for name in weights.keys() - {"head/gamma"}}, (32, 32))
