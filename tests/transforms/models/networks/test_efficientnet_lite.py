"""The bundled network against the outputs of the original implementation, on six photographs."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from transforms.models.engines import loading, opening
from transforms.models.networks.efficientnet_lite import EfficientNetLite0

GOLDEN = Path(__file__).parents[3] / "golden" / "efficientnet_lite0.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def network():
    return opening.load_efficientnet_lite0("efficientnet_lite0")


@pytest.fixture(scope="module")
def features(network, golden):
    return network(tf.constant(golden["images"], tf.float32) / 255).numpy()


def test_features_agree_with_the_original(features, golden):
    expected = golden["features"]
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(expected, axis=1)
    # The weights here are rounded to float16; the original's are float32.
    assert ((features * expected).sum(axis=1) / norms).min() >= 0.9999
    assert np.abs(np.linalg.norm(features, axis=1) / np.linalg.norm(expected, axis=1) - 1).max() < 0.01


def test_classifier_names_the_same_classes(network, features, golden):
    logits = network.logits(tf.constant(features)).numpy()
    top = logits.argmax(axis=1)
    assert top.tolist() == golden["logits"].argmax(axis=1).tolist() == [967, 285, 540, 985, 442, 665]


def test_the_pipelines_own_path_agrees_too(model, golden):
    vectors = loading.load(model)(golden["images"])
    expected = golden["features"]
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((vectors * expected).sum(axis=1) / norms).min() >= 0.9999


def test_missing_weights_are_named():
    network = EfficientNetLite0({"stem/kernel": np.zeros((3, 3, 3, 32), np.float16)})
    with pytest.raises(ValueError, match="no weight 'stem/gamma'"):
        network(tf.zeros((1, 32, 32, 3)))
