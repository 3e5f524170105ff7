"""The architecture of EfficientNet-Lite0 as a table, for TensorFlow and for OpenVINO.

Google's EfficientNet-Lite (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite) is
EfficientNet-B0 (Tan and Le 2019, https://arxiv.org/abs/1905.11946) without squeeze-and-excite, with ReLU6 in place of
swish.
"""

from collections.abc import Iterator
from typing import NamedTuple

BATCH_NORM_EPSILON = 1e-3

# (expand ratio, output channels, repeats, stride of the first repeat); Tan and Le 2019, table 1. The weights carry the
# kernel sizes.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 40, 2, 2),
    (6, 80, 3, 2),
    (6, 112, 3, 1),
    (6, 192, 4, 2),
    (6, 320, 1, 1),
)


class Block(NamedTuple):
    """MBConv: expand by a 1×1 convolution, filter by depth, project back; the residual where shapes agree."""

    name: str
    expands: bool
    stride: int
    has_residual: bool


def blocks() -> Iterator[Block]:
    """Yields the blocks between `stem` and `head`."""
    number = 0
    for expand_ratio, _, repeats, first_stride in _STAGES:
        for repeat in range(repeats):
            yield Block(f"block_{number:02d}", expand_ratio != 1, 1 if repeat else first_stride, repeat > 0)
            number += 1
