"""Unit vectors: the vectors of a model, scaled to length 1."""

import numpy as np

from transforms.models.engines.fixed_batches import Pixels, Vectors
from transforms.models.engines.openvino_engine import Run


def scaled(vectors: Vectors) -> Vectors:
    """Returns the vectors, float32 (n, dimension), scaled to length 1. A vector of zeros stays: it has no direction.

    Components that are NaN or infinite stay so, or become NaN: `embed` makes a failure of such a vector.

    >>> scaled(np.array([[3, 4], [0, 0]], np.float32)).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        unit: Vectors = (vectors / np.where(lengths == 0, 1.0, lengths)).astype(np.float32)
    return unit


def normalized(run: Run) -> Run:
    """Returns a function like `run`, uint8 (n, height, width, 3) → float32 (n, dimension), whose vectors have length 1.

    It is the same for all engines, which need no operation of their own for it.
    """

    def run_normalized(pixels: Pixels) -> Vectors:
        return scaled(run(pixels))

    return run_normalized
