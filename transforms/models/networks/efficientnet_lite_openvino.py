"""EfficientNet-Lite0 for OpenVINO, without TensorFlow, whose import takes longer than the rest of a start.

It is the network of `efficientnet_lite.py` with the batch norm folded into the convolutions.
"""

from collections.abc import Mapping

import numpy as np
import openvino
from openvino import opset8 as ops

from transforms.models.networks.efficientnet_lite_stages import BATCH_NORM_EPSILON, blocks

_SAME = {"pads_begin": [0, 0], "pads_end": [0, 0], "dilations": [1, 1], "auto_pad": "same_upper"}


def model(weights: Mapping[str, np.ndarray], image_size: tuple[int, int]) -> openvino.Model:
    """Returns the network: images, uint8 (n, height, width, 3) → feature vectors, float32 (n, 1280), pooled.

    Args:
      weights: named as in `efficientnet_lite.EfficientNetLite0`, in any float type.
      image_size: (height, width) in pixels.
    """
    images = ops.parameter([-1, *image_size, 3], np.uint8, name="images")
    x = ops.divide(ops.subtract(ops.convert(images, np.float32), np.float32(127)), np.float32(128))
    x = _conv(ops.transpose(x, np.array([0, 3, 1, 2])), weights, "stem", 2)
    for block in blocks():
        y = _conv(x, weights, f"{block.name}/expand") if block.expands else x
        y = _depthwise(y, weights, f"{block.name}/depthwise", block.stride)
        y = _conv(y, weights, f"{block.name}/project", activation=False)
        x = ops.add(x, y) if block.has_residual else y
    x = _conv(x, weights, "head")
    return openvino.Model([ops.reduce_mean(x, np.array([2, 3]))], [images])


def _conv(
    x: openvino.Node, weights: Mapping[str, np.ndarray], name: str, stride: int = 1, activation: bool = True
) -> openvino.Node:
    kernel, bias = _folded(weights, name)
    y = ops.convolution(x, _constant(kernel.transpose(3, 2, 0, 1)), [stride, stride], **_SAME)
    return _biased(y, bias, activation)


def _depthwise(x: openvino.Node, weights: Mapping[str, np.ndarray], name: str, stride: int) -> openvino.Node:
    kernel, bias = _folded(weights, name)
    y = ops.group_convolution(x, _constant(kernel.transpose(2, 3, 0, 1)[:, None]), [stride, stride], **_SAME)
    return _biased(y, bias, activation=True)


def _biased(x: openvino.Node, bias: np.ndarray, activation: bool) -> openvino.Node:
    y = ops.add(x, _constant(bias.reshape(1, -1, 1, 1)))
    return ops.clamp(y, 0.0, 6.0) if activation else y


def _constant(values: np.ndarray) -> openvino.Node:
    """Returns the node of an array. If OpenVINO made the node itself, it would first make a list of the numbers."""
    return openvino.op.Constant(np.ascontiguousarray(values))


def _folded(weights: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the kernel (height, width, in, out) and the bias (out,) of a convolution and its batch norm together.

    γ · (w ∗ x - μ) / √(σ² + ε) + β = (s · w) ∗ x + (β - s · μ) with s = γ / √(σ² + ε).
    """
    kernel, gamma, beta, mean, variance = (
        weights[f"{name}/{part}"].astype(np.float32)
        for part in ("kernel", "gamma", "beta", "moving_mean", "moving_variance")
    )
    scale = gamma / np.sqrt(variance + np.float32(BATCH_NORM_EPSILON))
    # The output channel is the last axis. In a depthwise kernel it is the last but one.
    is_depthwise = kernel.shape[3] == 1 and kernel.shape[2] == scale.size
    return kernel * (scale[:, None] if is_depthwise else scale), beta - scale * mean
