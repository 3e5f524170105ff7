"""The map of a sample: its two directions of largest variance."""

import numpy as np
import numpy.typing as npt


def plane(vectors: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], float]:
    """Returns the vectors on the plane of their first two principal components.

    Args:
      vectors: float32 (n, dimension), finite.

    Returns:
      The coordinates, float32 (n, 2), each axis scaled so that it reaches from -1 to 1, and the share of the variance
      that they show. The sign of an axis is chosen so that its coordinate farthest from the mean is positive.
    """
    count = len(vectors)
    nowhere = np.zeros((count, 2), np.float32), 0.0
    if count < 2:
        return nowhere
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    # The components of n rows come from their (n, n) products, which are few here.
    products = centred @ centred.T
    total = float(np.trace(products))
    if total <= 1e-12 * max(1.0, float(np.square(vectors, dtype=np.float64).sum())):
        return nowhere
    variances, axes = np.linalg.eigh(products)  # smallest first
    variances, axes = variances[:-3:-1].clip(0), axes[:, :-3:-1]
    coordinates = axes * np.sqrt(variances)
    coordinates *= np.sign(coordinates[np.abs(coordinates).argmax(axis=0), [0, 1]])
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    scaled = 2 * (coordinates - low) / np.where(high > low, high - low, 1) - 1
    return scaled.astype(np.float32), float(variances.sum() / total)
