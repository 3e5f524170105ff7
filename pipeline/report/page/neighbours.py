"""The nearest neighbours within a sample, and the groups of near-duplicates among them. Exact, by cosine."""

import numpy as np
import numpy.typing as npt

NEIGHBOURS = 5
# Recompressed, resized and slightly cropped copies of an image lie above it with the networks of this package, and
# different photographs below it. It is no property of a network that one trained on other images must have.
NEAR_DUPLICATE = 0.93


def cosines(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns the cosines of all pairs, float32 (n, n); 0 with a vector of length 0.

    >>> cosines(np.array([[3, 0], [0, 1], [5, 0]], np.float32)).tolist()
    [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    """
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    units = wide / np.where(lengths > 0, lengths, 1.0)
    return np.clip(units @ units.T, -1.0, 1.0).astype(np.float32)


def nearest(similar: npt.NDArray[np.float32], count: int = NEIGHBOURS) -> npt.NDArray[np.intp]:
    """Returns the rows of the nearest others of each row, nearest first, (n, at most `count`).

    Args:
      similar: cosines, as `cosines` returns them.
      count: of neighbours; fewer if there are fewer other rows.
    """
    others = similar.copy()
    np.fill_diagonal(others, -np.inf)
    return np.argsort(-others, axis=1, kind="stable")[:, : min(count, max(0, len(others) - 1))]


def near_duplicates(similar: npt.NDArray[np.float32], threshold: float = NEAR_DUPLICATE) -> list[list[int]]:
    """Returns groups of rows, largest first, in which a chain of pairs with a cosine of the threshold joins all.

    >>> near_duplicates(np.array([[1, 0.1, 0.99], [0.1, 1, 0.2], [0.99, 0.2, 1]], np.float32))
    [[0, 2]]
    """
    joined = similar >= threshold
    np.fill_diagonal(joined, False)
    waiting = {int(row) for row in np.flatnonzero(joined.any(axis=1))}
    groups = []
    while waiting:
        group, edge = set(), {min(waiting)}
        while edge:
            group |= edge
            waiting -= edge
            edge = {int(row) for row in np.flatnonzero(joined[sorted(edge)].any(axis=0))} - group
        groups.append(sorted(group))
    return sorted(groups, key=lambda group: (-len(group), group[0]))
