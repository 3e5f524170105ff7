"""Inception-ResNet V2: Inception modules as residuals.

The architecture is Szegedy, Ioffe, Vanhoucke and Alemi 2016 (https://arxiv.org/abs/1602.07261), as TF-Slim trained
it: https://github.com/tensorflow/models/blob/master/research/slim/nets/inception_resnet_v2.py. The auxiliary
classifier is omitted, because only training from scratch needs it.
"""

import dataclasses

import tensorflow as tf

from transforms.models.networks.slim_layers import AveragePool, Chain, Conv, Layer, MaxPool, Mixed, Pass, Shapes
from transforms.models.networks.slim_network import SlimNetwork


@dataclasses.dataclass(frozen=True)
class _Residual(Layer):
    """x + scale × up(branches(x)), then ReLU. `up` is a 1×1 convolution with a bias that restores the depth of x."""

    branches: Mixed
    scale: float
    activation: bool = True

    def shapes(self, scope: str, channels: int) -> Shapes:
        up = f"{scope}/{self.branches.name}/Conv2d_1x1"
        return self.branches.shapes(scope, channels) | {
            f"{up}/weights": (1, 1, self.branches.depth(channels), channels),
            f"{up}/biases": (channels,),
        }

    def __call__(self, x: tf.Tensor, scope: str, run: Pass) -> tf.Tensor:
        up = f"{scope}/{self.branches.name}/Conv2d_1x1"
        residual = tf.nn.conv2d(self.branches(x, scope, run), run.weights[f"{up}/weights"], strides=1, padding="SAME")
        x += self.scale * (residual + run.weights[f"{up}/biases"])
        return tf.nn.relu(x) if self.activation else x


def _block35(name: str) -> _Residual:
    branches = Mixed(
        name,
        Conv("Conv2d_1x1", 32),
        Chain(Conv("Conv2d_0a_1x1", 32), Conv("Conv2d_0b_3x3", 32)),
        Chain(Conv("Conv2d_0a_1x1", 32), Conv("Conv2d_0b_3x3", 48), Conv("Conv2d_0c_3x3", 64)),
    )
    return _Residual(branches, scale=0.17)


def _block17(name: str) -> _Residual:
    branches = Mixed(
        name,
        Conv("Conv2d_1x1", 192),
        Chain(Conv("Conv2d_0a_1x1", 128), Conv("Conv2d_0b_1x7", 160), Conv("Conv2d_0c_7x1", 192)),
    )
    return _Residual(branches, scale=0.10)


def _block8(name: str, scale: float = 0.20, activation: bool = True) -> _Residual:
    branches = Mixed(
        name,
        Conv("Conv2d_1x1", 192),
        Chain(Conv("Conv2d_0a_1x1", 192), Conv("Conv2d_0b_1x3", 224), Conv("Conv2d_0c_3x1", 256)),
    )
    return _Residual(branches, scale, activation)


def _halving(name: str, channels: int) -> Conv:
    """The 3×3 convolution at the end of a reduction's branch. It halves height and width."""
    return Conv(name, channels, stride=2, padding="VALID")


_STEM = Chain(
    Conv("Conv2d_1a_3x3", 32, stride=2, padding="VALID"),
    Conv("Conv2d_2a_3x3", 32, padding="VALID"),
    Conv("Conv2d_2b_3x3", 64),
    MaxPool(stride=2, padding="VALID"),
    Conv("Conv2d_3b_1x1", 80),
    Conv("Conv2d_4a_3x3", 192, padding="VALID"),
    MaxPool(stride=2, padding="VALID"),
)
_MIXED_5B = Mixed(
    "Mixed_5b",
    Conv("Conv2d_1x1", 96),
    Chain(Conv("Conv2d_0a_1x1", 48), Conv("Conv2d_0b_5x5", 64)),
    Chain(Conv("Conv2d_0a_1x1", 64), Conv("Conv2d_0b_3x3", 96), Conv("Conv2d_0c_3x3", 96)),
    Chain(AveragePool(), Conv("Conv2d_0b_1x1", 64)),
)
_MIXED_6A = Mixed(
    "Mixed_6a",
    _halving("Conv2d_1a_3x3", 384),
    Chain(Conv("Conv2d_0a_1x1", 256), Conv("Conv2d_0b_3x3", 256), _halving("Conv2d_1a_3x3", 384)),
    MaxPool(stride=2, padding="VALID"),
)
_MIXED_7A = Mixed(
    "Mixed_7a",
    Chain(Conv("Conv2d_0a_1x1", 256), _halving("Conv2d_1a_3x3", 384)),
    Chain(Conv("Conv2d_0a_1x1", 256), _halving("Conv2d_1a_3x3", 288)),
    Chain(Conv("Conv2d_0a_1x1", 256), Conv("Conv2d_0b_3x3", 288), _halving("Conv2d_1a_3x3", 320)),
    MaxPool(stride=2, padding="VALID"),
)


class InceptionResNetV2(SlimNetwork):
    """Inception-ResNet V2 over given weights: images → feature vectors of 1536, and their logits."""

    SCOPE = "InceptionResnetV2"
    LAYERS = Chain(
        _STEM,
        _MIXED_5B,
        *(_block35(f"Repeat/block35_{number}") for number in range(1, 11)),
        _MIXED_6A,
        *(_block17(f"Repeat_1/block17_{number}") for number in range(1, 21)),
        _MIXED_7A,
        *(_block8(f"Repeat_2/block8_{number}") for number in range(1, 10)),
        # The last block has no scaling and no ReLU.
        _block8("Block8", scale=1.0, activation=False),
        Conv("Conv2d_7b_1x1", 1536),
    )
    CLASSIFIER = "Logits/Logits"
    CLASSIFIER_KERNEL = (1536, 1001)
    # `inception_resnet_v2_arg_scope` decays the weights and the biases of the convolutions and the classifier.
    DECAYED = ("weights", "biases")
    IMAGE_SIZE = (299, 299)
    SMALLEST_SIDE = 75
    FEATURES = 1536
