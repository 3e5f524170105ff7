"""Weights made by a formula, and what TF-Slim's own networks made of them: golden data without a checkpoint to carry.

`golden/NAME.variables.json` holds the name and shape of every variable of the original, `golden/NAME.npz` its outputs,
`features_HxW` and `logits_HxW`, for `images(H, W)`.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_GOLDEN = Path(__file__).parents[1] / "golden"

# Other kernels, other orders of float32 sums: what the original leaves between itself on two machines is near 1e-5.
AGREEMENT = 1e-3


def variables(network: str) -> dict[str, tuple[int, ...]]:
    """Returns the variables of the original, name → shape, those of an auxiliary head among them."""
    shapes = json.loads((_GOLDEN / f"{network}.variables.json").read_text())
    return {name: tuple(shape) for name, shape in shapes.items()}


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Returns a value for each variable, float32, the same whenever and wherever it is made."""
    return {name: _weight(name, shape) for name, shape in shapes.items()}


def images(height: int, width: int) -> np.ndarray:
    """Returns two images of 8×8 colours, float32 (2, height, width, 3) in [0, 1]."""
    small = np.random.RandomState(7).random_sample((2, 8, 8, 3))
    return small[:, np.arange(height) * 8 // height][:, :, np.arange(width) * 8 // width].astype(np.float32)


def golden(network: str, key: str) -> np.ndarray:
    """Returns the output `key` of the original, as `features_299x299`."""
    with np.load(_GOLDEN / f"{network}.npz", allow_pickle=False) as arrays:
        return arrays[key]


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest difference as a share of the largest value expected; to be compared with AGREEMENT."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    leaf = name.rsplit("/", 1)[1]
    if leaf in ("weights", "depthwise_weights", "pointwise_weights"):
        value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))
    elif leaf == "moving_variance":
        value = 1 + 0.1 * rng.random_sample(shape)
    else:
        value = 0.05 * rng.standard_normal(shape)
    return value.astype(np.float32)
