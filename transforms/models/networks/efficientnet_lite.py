"""EfficientNet-Lite0, the network of the bundled model. `efficientnet_lite_stages` has the architecture."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from transforms.models.networks.efficientnet_lite_stages import BATCH_NORM_EPSILON, blocks

FEATURES = 1280
CLASSES = 1000


class EfficientNetLite0(tf.Module):
    """The network over given weights, in inference mode.

    The name of a weight has up to three parts, joined by `/`:
    - `stem`, `block_00` … `block_15` or `head`
    - in a block, `expand`, `depthwise` or `project`
    - `kernel`, (height, width, in, out) as in TensorFlow, `gamma`, `beta`, `moving_mean` or `moving_variance`

    The classifier has `classifier/kernel` (1280, 1000) and `classifier/bias`.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]):
        """Takes the weights in any float type and computes in float32.

        Raises:
          ValueError: if a weight of the network is missing.
        """
        super().__init__(name="efficientnet_lite0")
        self._weights = {name: tf.Variable(array.astype(np.float32), name=name) for name, array in weights.items()}

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Images, float32 (n, height, width, 3) in [0, 1] → feature vectors, float32 (n, 1280), pooled."""
        x = (images * 255.0 - 127.0) / 128.0
        x = self._conv(x, "stem", stride=2)
        for block in blocks():
            y = self._conv(x, f"{block.name}/expand") if block.expands else x
            y = self._depthwise(y, f"{block.name}/depthwise", block.stride)
            y = self._conv(y, f"{block.name}/project", activation=False)
            x = x + y if block.has_residual else y
        x = self._conv(x, "head")
        return tf.reduce_mean(x, axis=[1, 2])

    def logits(self, features: tf.Tensor) -> tf.Tensor:
        """Feature vectors, float32 (n, 1280) → logits, float32 (n, 1000), of the ImageNet (ILSVRC 2012) classes."""
        return tf.linalg.matmul(features, self._weight("classifier/kernel")) + self._weight("classifier/bias")

    def _conv(self, x: tf.Tensor, name: str, stride: int = 1, activation: bool = True) -> tf.Tensor:
        y = tf.nn.conv2d(x, self._weight(f"{name}/kernel"), strides=stride, padding="SAME")
        return self._batch_norm(y, name, activation)

    def _depthwise(self, x: tf.Tensor, name: str, stride: int) -> tf.Tensor:
        kernel = self._weight(f"{name}/kernel")
        y = tf.nn.depthwise_conv2d(x, kernel, strides=[1, stride, stride, 1], padding="SAME")
        return self._batch_norm(y, name, activation=True)

    def _batch_norm(self, x: tf.Tensor, name: str, activation: bool) -> tf.Tensor:
        y, *_ = tf.compat.v1.nn.fused_batch_norm(
            x,
            scale=self._weight(f"{name}/gamma"),
            offset=self._weight(f"{name}/beta"),
            mean=self._weight(f"{name}/moving_mean"),
            variance=self._weight(f"{name}/moving_variance"),
            epsilon=BATCH_NORM_EPSILON,
            is_training=False,
        )
        return tf.nn.relu6(y) if activation else y

    def _weight(self, name: str) -> tf.Variable:
        try:
            return self._weights[name]
        except KeyError as error:
            raise ValueError(f"no weight {name!r} for efficientnet_lite0: the weights file is incomplete") from error
