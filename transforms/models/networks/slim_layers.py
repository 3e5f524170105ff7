"""TF-Slim's layers as data.

A layer declares its variables, under the names in TF-Slim's checkpoints, and its computation. Both stand in one class,
so they cannot drift apart. A checkpoint can be checked against a network before the network is built.

The originals are `slim.conv2d`, `slim.max_pool2d`, `slim.avg_pool2d` and `slim.batch_norm` under the arg_scopes of
https://github.com/tensorflow/models/tree/master/research/slim/nets.
"""

import abc
import dataclasses
from collections.abc import Mapping

import tensorflow as tf

Shapes = dict[str, tuple[int, ...]]

# The same in `inception_arg_scope` and `inception_resnet_v2_arg_scope`.
BATCH_NORM_EPSILON = 0.001


@dataclasses.dataclass(frozen=True)
class Pass:
    """One forward pass: the arguments that all layers share."""

    weights: Mapping[str, tf.Variable]
    training: bool
    batch_norm_momentum: tf.Tensor


class Layer(abc.ABC):
    """A layer of a network. `scope` is the prefix of its variables' names in TF-Slim."""

    def depth(self, channels: int) -> int:
        """Returns the number of output channels for `channels` input channels; by default the same."""
        return channels

    def shapes(self, scope: str, channels: int) -> Shapes:
        """Returns the layer's variables, name → shape, for `channels` input channels; by default none."""
        return {}

    @abc.abstractmethod
    def __call__(self, x: tf.Tensor, scope: str, run: Pass) -> tf.Tensor:
        """Feature maps, float32 (n, height, width, channels) → feature maps of another size and depth."""


@dataclasses.dataclass(frozen=True)
class Conv(Layer):
    """Convolution, batch normalization, ReLU. The name ends in the kernel size, as in TF-Slim: `Conv2d_0b_1x7`."""

    name: str
    channels: int
    stride: int = 1
    padding: str = "SAME"

    def depth(self, channels: int) -> int:
        return self.channels

    def shapes(self, scope: str, channels: int) -> Shapes:
        height, width = map(int, self.name.rsplit("_", 1)[1].split("x"))
        by_channel = ("beta", "moving_mean", "moving_variance")
        return {
            f"{scope}/{self.name}/weights": (height, width, channels, self.channels),
            **{f"{scope}/{self.name}/BatchNorm/{leaf}": (self.channels,) for leaf in by_channel},
        }

    def __call__(self, x: tf.Tensor, scope: str, run: Pass) -> tf.Tensor:
        kernel = run.weights[f"{scope}/{self.name}/weights"]
        x = tf.nn.conv2d(x, kernel, strides=self.stride, padding=self.padding)
        return tf.nn.relu(batch_norm(x, f"{scope}/{self.name}/BatchNorm", run))


@dataclasses.dataclass(frozen=True)
class MaxPool(Layer):
    """The maximum of 3×3 pixels."""

    stride: int = 1
    padding: str = "SAME"

    def __call__(self, x: tf.Tensor, scope: str, run: Pass) -> tf.Tensor:
        return tf.nn.max_pool2d(x, ksize=3, strides=self.stride, padding=self.padding)


class AveragePool(Layer):
    """The mean of 3×3 pixels, stride 1. At the border, the padding does not count."""

    def __call__(self, x: tf.Tensor, scope: str, run: Pass) -> tf.Tensor:
        return tf.nn.avg_pool2d(x, ksize=3, strides=1, padding="SAME")


class Chain(Layer):
    """Layers one after the other, all in the same scope."""

    def __init__(self, *layers: Layer):
        self._layers = layers

    def depth(self, channels: int) -> int:
        for layer in self._layers:
            channels = layer.depth(channels)
        return channels

    def shapes(self, scope: str, channels: int) -> Shapes:
        shapes: Shapes = {}
        for layer in self._layers:
            shapes |= layer.shapes(scope, channels)
            channels = layer.depth(channels)
        return shapes

    def __call__(self, x: tf.Tensor, scope: str, run: Pass) -> tf.Tensor:
        for layer in self._layers:
            x = layer(x, scope, run)
        return x


class Mixed(Layer):
    """An Inception module: branches over the same input, concatenated by depth, in scopes `name/Branch_0` and so on."""

    def __init__(self, name: str, *branches: Layer):
        self.name = name
        self._branches = {f"{name}/Branch_{index}": branch for index, branch in enumerate(branches)}

    def depth(self, channels: int) -> int:
        return sum(branch.depth(channels) for branch in self._branches.values())

    def shapes(self, scope: str, channels: int) -> Shapes:
        shapes: Shapes = {}
        for name, branch in self._branches.items():
            shapes |= branch.shapes(f"{scope}/{name}", channels)
        return shapes

    def __call__(self, x: tf.Tensor, scope: str, run: Pass) -> tf.Tensor:
        return tf.concat([branch(x, f"{scope}/{name}", run) for name, branch in self._branches.items()], axis=3)


def batch_norm(x: tf.Tensor, scope: str, run: Pass) -> tf.Tensor:
    """`slim.batch_norm` with its defaults: an offset (beta) and no scale (gamma).

    In training it normalizes by the mean and variance of the batch, and updates the moving averages:
    moving −= (moving − batch) × (1 − momentum). That variance is the unbiased one, as the fused kernel returns it.
    """
    offset = run.weights[f"{scope}/beta"]
    moving_mean, moving_variance = run.weights[f"{scope}/moving_mean"], run.weights[f"{scope}/moving_variance"]
    averages = {} if run.training else {"mean": moving_mean, "variance": moving_variance}
    y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        x,
        scale=tf.ones_like(offset),
        offset=offset,
        epsilon=BATCH_NORM_EPSILON,
        is_training=run.training,
        **averages,
    )
    if run.training:
        for moving, batch in ((moving_mean, mean), (moving_variance, variance)):
            moving.assign_sub((moving - batch) * (1.0 - run.batch_norm_momentum))
    return y
