"""The nearest neighbours within a few vectors, and the groups of near-duplicates among them. Exact, by cosine."""

import numpy as np
import numpy.typing as npt

NEIGHBOURS = 5
# With the networks of this package, recompressed, resized and slightly cropped copies of an image lie above it, and
# different photographs below it. Networks that were trained on other images may differ.
NEAR_DUPLICATE = 0.93


def cosines(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns the cosines of all pairs, float32 (n, n); 0 with a vector of length 0.

    >>> cosines(np.array([[3, 0], [0, 1], [5, 0]], np.float32)).tolist()
    [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    """
    return np.clip(exact_cosines(vectors), -1.0, 1.0).astype(np.float32)


def exact_cosines(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Returns the cosines of all pairs in float64, (n, n), whatever the type of the vectors."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    units = wide / np.where(lengths > 0, lengths, 1.0)
    return units @ units.T


def nearest(similar: npt.NDArray[np.floating], count: int = NEIGHBOURS) -> npt.NDArray[np.intp]:
    """Returns the rows of the nearest others of each row, nearest first, (n, at most `count`).

    Rows at equal cosines keep their order.

    Args:
      similar: cosines of all pairs.
      count: of neighbours; fewer if there are fewer other rows.
    """
    others = similar.copy()
    np.fill_diagonal(others, -np.inf)
    return np.argsort(-others, axis=1, kind="stable")[:, : min(count, max(0, len(others) - 1))]


def near_duplicates(similar: npt.NDArray[np.float32], threshold: float = NEAR_DUPLICATE) -> list[list[int]]:
    """Returns groups of rows, largest first, in which all pairs have a cosine of the threshold or more.

    The two groups with the largest least cosine between them are joined, again and again (complete linkage). Chains of
    pairs would join images that have nothing in common.

    Args:
      similar: cosines, as `cosines` returns them.
      threshold: the least cosine within a group.

    >>> near_duplicates(np.array([[1, 0.1, 0.99], [0.1, 1, 0.2], [0.99, 0.2, 1]], np.float32))
    [[0, 2]]
    """
    least = similar.copy()  # the least cosine between two groups, each at the row of its first member
    np.fill_diagonal(least, -np.inf)
    groups = [[row] for row in range(len(least))]
    closest = least.argmax(axis=1) if groups else np.zeros(0, np.intp)
    best = least.max(axis=1, initial=-np.inf)
    while groups and best.max() >= threshold:
        one = int(best.argmax())
        two = int(closest[one])
        groups[one] += groups[two]
        groups[two] = []
        joined = np.minimum(least[one], least[two])
        least[one] = least[:, one] = joined
        least[two] = least[:, two] = best[two] = -np.inf
        closest[closest == two] = one
        stale = (closest == one) & (joined < best)
        stale[one] = True
        closest[stale], best[stale] = least[stale].argmax(axis=1), least[stale].max(axis=1)
    return sorted((sorted(group) for group in groups if len(group) > 1), key=lambda group: (-len(group), group[0]))
