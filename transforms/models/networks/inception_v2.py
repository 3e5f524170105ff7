"""Inception V2: Inception with batch normalization.

The architecture is Ioffe and Szegedy 2015 (https://arxiv.org/abs/1502.03167, figure 5), as TF-Slim trained it:
https://github.com/tensorflow/models/blob/master/research/slim/nets/inception_v2.py.
"""

import dataclasses

import tensorflow as tf

from transforms.models.networks.slim_layers import AveragePool, Chain, Conv, Layer, MaxPool, Mixed, Pass, Shapes
from transforms.models.networks.slim_network import SlimNetwork


@dataclasses.dataclass(frozen=True)
class _SeparableConv(Layer):
    """The stem, `slim.separable_conv2d`: 7×7 filters per channel, then a 1×1 convolution, a bias and ReLU.

    It has no batch normalization, because the arg_scope covers only `slim.conv2d`.
    """

    name: str
    channels: int
    filters: int  # per channel of the input
    stride: int

    def depth(self, channels: int) -> int:
        return self.channels

    def shapes(self, scope: str, channels: int) -> Shapes:
        return {
            f"{scope}/{self.name}/depthwise_weights": (7, 7, channels, self.filters),
            f"{scope}/{self.name}/pointwise_weights": (1, 1, channels * self.filters, self.channels),
            f"{scope}/{self.name}/biases": (self.channels,),
        }

    def __call__(self, x: tf.Tensor, scope: str, run: Pass) -> tf.Tensor:
        x = tf.nn.separable_conv2d(
            x,
            run.weights[f"{scope}/{self.name}/depthwise_weights"],
            run.weights[f"{scope}/{self.name}/pointwise_weights"],
            strides=[1, self.stride, self.stride, 1],
            padding="SAME",
        )
        return tf.nn.relu(x + run.weights[f"{scope}/{self.name}/biases"])


def _inception(
    name: str, one: int, three: tuple[int, int], double: tuple[int, int], pooled: int, pool: Layer | None = None
) -> Mixed:
    """An Inception module of four branches: 1×1; 1×1, 3×3; 1×1, 3×3, 3×3; pool, 1×1.

    Args:
      name: the module's scope.
      one: channels of the first branch.
      three: channels of the second branch: its 1×1 and its 3×3 convolution.
      double: channels of the third branch: its 1×1 and each of its 3×3 convolutions.
      pooled: channels of the fourth branch.
      pool: the first layer of the fourth branch; AveragePool by default.
    """
    return Mixed(
        name,
        Conv("Conv2d_0a_1x1", one),
        Chain(Conv("Conv2d_0a_1x1", three[0]), Conv("Conv2d_0b_3x3", three[1])),
        Chain(Conv("Conv2d_0a_1x1", double[0]), Conv("Conv2d_0b_3x3", double[1]), Conv("Conv2d_0c_3x3", double[1])),
        Chain(pool or AveragePool(), Conv("Conv2d_0b_1x1", pooled)),
    )


def _reduction(name: str, three: tuple[int, int], double: tuple[int, int]) -> Mixed:
    """An Inception module that halves height and width. It has no 1×1 branch, and no convolution after its pool."""
    return Mixed(
        name,
        Chain(Conv("Conv2d_0a_1x1", three[0]), Conv("Conv2d_1a_3x3", three[1], stride=2)),
        Chain(
            Conv("Conv2d_0a_1x1", double[0]),
            Conv("Conv2d_0b_3x3", double[1]),
            Conv("Conv2d_1a_3x3", double[1], stride=2),
        ),
        MaxPool(stride=2),
    )


class InceptionV2(SlimNetwork):
    """Inception V2 over given weights: images → feature vectors of 1024, and their logits."""

    SCOPE = "InceptionV2"
    LAYERS = Chain(
        _SeparableConv("Conv2d_1a_7x7", 64, filters=8, stride=2),
        MaxPool(stride=2),
        Conv("Conv2d_2b_1x1", 64),
        Conv("Conv2d_2c_3x3", 192),
        MaxPool(stride=2),
        _inception("Mixed_3b", 64, (64, 64), (64, 96), 32),
        _inception("Mixed_3c", 64, (64, 96), (64, 96), 64),
        _reduction("Mixed_4a", (128, 160), (64, 96)),
        _inception("Mixed_4b", 224, (64, 96), (96, 128), 128),
        _inception("Mixed_4c", 192, (96, 128), (96, 128), 128),
        _inception("Mixed_4d", 160, (128, 160), (128, 160), 96),
        _inception("Mixed_4e", 96, (128, 192), (160, 192), 96),
        _reduction("Mixed_5a", (128, 192), (192, 256)),
        _inception("Mixed_5b", 352, (192, 320), (160, 224), 128),
        _inception("Mixed_5c", 352, (192, 320), (192, 224), 128, MaxPool()),
    )
    CLASSIFIER = "Logits/Conv2d_1c_1x1"
    CLASSIFIER_KERNEL = (1, 1, 1024, 1001)
    # `inception_arg_scope` decays the weights of `slim.conv2d`. It decays neither those of the stem nor any bias.
    DECAYED = ("weights",)
    IMAGE_SIZE = (224, 224)
    FEATURES = 1024
