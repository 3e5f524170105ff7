"""The map of a sample: its two directions of largest variance."""

import numpy as np
import numpy.typing as npt

_BLOCK, _ITERATIONS = 8, 20


def plane(vectors: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], float]:
    """Returns the vectors on the plane of their first two principal components.

    Args:
      vectors: float32 (n, dimension), finite.

    Returns:
      The coordinates, float32 (n, 2), each axis scaled so that it reaches from -1 to 1, and the share of the variance
      that they show. The sign of an axis is chosen so that its coordinate farthest from the mean is positive.
    """
    count = len(vectors)
    points = np.zeros((count, 2), np.float32)
    if count < 2:
        return points, 0.0
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    # The components of n rows come from their (n, n) products, which are few here.
    products = centred @ centred.T
    total = float(np.trace(products))
    if total <= 1e-12 * max(1.0, float(np.square(vectors, dtype=np.float64).sum())):
        return points, 0.0
    variances, axes = _leading(products)
    top = min(2, count)
    coordinates = (axes * np.sqrt(variances))[:, :top]
    signs = np.sign(coordinates[np.abs(coordinates).argmax(axis=0), np.arange(top)])
    directed = coordinates * signs
    low, high = directed.min(axis=0), directed.max(axis=0)
    points[:, :top] = 2 * (directed - low) / np.where(high > low, high - low, 1) - 1
    return points, float(variances[:top].sum() / total)


def _leading(products: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns the largest eigenvalues of a symmetric matrix (n, n), largest first, and their vectors (n, at most 8).

    All of its eigenvectors would take ten times as long. The first of these few converge (orthogonal iteration: Golub
    and Van Loan, Matrix Computations, 8.2.4).
    """
    count = len(products)
    basis = np.random.default_rng(0).standard_normal((count, min(_BLOCK, count)))
    for _ in range(_ITERATIONS):
        basis, _ = np.linalg.qr(products @ basis)
    values, vectors = np.linalg.eigh(basis.T @ products @ basis)
    return values[::-1].clip(0), basis @ vectors[:, ::-1]
