"""The architecture of EfficientNet-Lite0 as a table, shared by TensorFlow and OpenVINO.

Google's EfficientNet-Lite (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite) is
EfficientNet-B0 (Tan and Le 2019, https://arxiv.org/abs/1905.11946) without squeeze-and-excite, with ReLU6 in place of
swish.
"""

from collections.abc import Iterator
from typing import NamedTuple

BATCH_NORM_EPSILON = 1e-3


class _Stage(NamedTuple):
    expand_ratio: int
    channels: int
    repeats: int
    first_stride: int  # the other repeats have stride 1


# Tan and Le 2019, table 1. The kernel sizes come from the shapes of the weights.
_STAGES = (
    _Stage(1, 16, 1, 1),
    _Stage(6, 24, 2, 2),
    _Stage(6, 40, 2, 2),
    _Stage(6, 80, 3, 2),
    _Stage(6, 112, 3, 1),
    _Stage(6, 192, 4, 2),
    _Stage(6, 320, 1, 1),
)


class Block(NamedTuple):
    """MBConv: a 1×1 convolution expands, a depthwise one filters, a 1×1 one projects; a residual where shapes agree."""

    name: str
    expands: bool
    stride: int
    has_residual: bool


def blocks() -> Iterator[Block]:
    """Yields the blocks between `stem` and `head`."""
    number = 0
    for stage in _STAGES:
        for repeat in range(stage.repeats):
            yield Block(
                name=f"block_{number:02d}",
                expands=stage.expand_ratio != 1,
                stride=1 if repeat else stage.first_stride,
                has_residual=repeat > 0,
            )
            number += 1
