"""TF-Slim's layers: each against its formula in numpy."""

import numpy as np
import pytest
import tensorflow as tf

from transforms.models.networks.slim_layers import AveragePool, Chain, Conv, MaxPool, Mixed, Pass, batch_norm

ATOL = 1e-5  # float32 sums of a few hundred terms


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(2.0, 3.0, (4, 5, 6, 2)).astype(np.float32)


def batch_norm_weights():
    values = {"beta": [0.5, -1.0], "moving_mean": [1.0, -2.0], "moving_variance": [4.0, 0.25]}
    return {f"scope/{name}": tf.Variable(value, dtype=tf.float32) for name, value in values.items()}


def running(weights=(), training=False, momentum=0.99):
    return Pass(weights, training, tf.constant(momentum))


def test_batch_norm_in_inference_uses_the_moving_averages(x):
    y = batch_norm(x, "scope", running(batch_norm_weights())).numpy()
    expected = (x - [1.0, -2.0]) / np.sqrt(np.array([4.0, 0.25]) + 0.001) + [0.5, -1.0]
    np.testing.assert_allclose(y, expected, atol=ATOL)


@pytest.mark.parametrize("momentum", [0.99, 0.997, 0.0, 1.0])
def test_batch_norm_in_training_normalizes_by_the_batch_and_moves_the_averages(x, momentum):
    weights = batch_norm_weights()
    y = batch_norm(x, "scope", running(weights, training=True, momentum=momentum)).numpy()
    pixels = x.reshape(-1, 2)
    mean, variance = pixels.mean(axis=0), pixels.var(axis=0)
    unbiased = pixels.var(axis=0, ddof=1)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 0.001) + [0.5, -1.0], atol=ATOL)
    moved = {name: weights[f"scope/{name}"].numpy() for name in ("moving_mean", "moving_variance")}
    np.testing.assert_allclose(moved["moving_mean"], np.array([1, -2]) * momentum + mean * (1 - momentum), atol=ATOL)
    np.testing.assert_allclose(
        moved["moving_variance"], np.array([4, 0.25]) * momentum + unbiased * (1 - momentum), atol=ATOL
    )


def test_batch_norm_in_inference_moves_nothing(x):
    weights = batch_norm_weights()
    before = {name: weight.numpy() for name, weight in weights.items()}
    batch_norm(x, "scope", running(weights))
    for name, weight in weights.items():
        np.testing.assert_array_equal(weight.numpy(), before[name])


def test_average_at_the_border_does_not_count_the_padding():
    y = AveragePool()(np.ones((1, 4, 4, 1), np.float32), "", running()).numpy()
    np.testing.assert_allclose(y, 1.0, atol=ATOL)


def test_max_pool_pads_with_nothing():
    y = MaxPool(stride=2)(np.full((1, 5, 5, 1), -1.0, np.float32), "", running()).numpy()
    assert y.shape == (1, 3, 3, 1)
    np.testing.assert_array_equal(y, -1.0)


def test_the_name_of_a_convolution_says_its_kernel():
    shapes = Conv("Conv2d_0b_1x7", 5).shapes("Net", 3)
    assert shapes == {
        "Net/Conv2d_0b_1x7/weights": (1, 7, 3, 5),
        "Net/Conv2d_0b_1x7/BatchNorm/beta": (5,),
        "Net/Conv2d_0b_1x7/BatchNorm/moving_mean": (5,),
        "Net/Conv2d_0b_1x7/BatchNorm/moving_variance": (5,),
    }


def test_branches_see_the_same_input_and_are_joined_by_depth():
    mixed = Mixed("Mixed_1a", Conv("Conv2d_0a_1x1", 2), Chain(MaxPool(), Conv("Conv2d_0b_1x1", 3)), MaxPool())
    shapes = mixed.shapes("Net", 4)
    assert shapes["Net/Mixed_1a/Branch_0/Conv2d_0a_1x1/weights"] == (1, 1, 4, 2)
    assert shapes["Net/Mixed_1a/Branch_1/Conv2d_0b_1x1/weights"] == (1, 1, 4, 3)
    assert len(shapes) == 8
    weights = {name: tf.Variable(tf.ones(shape)) for name, shape in shapes.items()}
    y = mixed(np.zeros((1, 3, 3, 4), np.float32), "Net", running(weights))
    assert y.shape[-1] == mixed.depth(4) == 2 + 3 + 4


def test_a_chain_hands_its_depth_on():
    chain = Chain(Conv("Conv2d_1a_3x3", 5, stride=2, padding="VALID"), MaxPool(), Conv("Conv2d_1b_1x1", 6))
    shapes = chain.shapes("Net", 3)
    assert shapes["Net/Conv2d_1b_1x1/weights"] == (1, 1, 5, 6)
    weights = {name: tf.Variable(tf.ones(shape)) for name, shape in shapes.items()}
    assert chain(np.zeros((1, 9, 8, 3), np.float32), "Net", running(weights)).shape == (1, 4, 3, 6)
    assert chain.depth(3) == 6
