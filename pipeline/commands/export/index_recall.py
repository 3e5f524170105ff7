"""Recall of an index: the part of the true nearest neighbours that its search returns."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

NEIGHBOURS = 10
# Scores of equal vectors differ by rounding, because the order of multiplication depends on the size of the matrix.
_TOLERANCE = 1e-5

Matrix = npt.NDArray[np.float32]


def recall(
    queries: tuple[Sequence[str], Matrix],
    answers: Sequence[Sequence[str]],
    blocks: Iterable[tuple[Sequence[str], Matrix]],
    metric: str,
) -> float:
    """Returns the mean recall@10 of answers against exact search in float32. A query is not its own neighbour.

    An answer counts if it is as near as the tenth neighbour. So copies of an image may stand for each other.

    Args:
      queries: their keys, and their vectors (n, dimension).
      answers: for each query the keys that an index returned, nearest first. One may be the query's own.
      blocks: all rows: their keys, and their vectors (m, dimension).
      metric: one of target.METRICS.
    """
    own_keys, vectors = queries
    wanted: dict[str, list[int]] = defaultdict(list)
    for i, (own, answer) in enumerate(zip(own_keys, answers, strict=True)):
        for key in [key for key in answer if key != own][:NEIGHBOURS]:
            wanted[key].append(i)
    number_of = {key: i for i, key in enumerate(own_keys)}
    compared = _unit(vectors) if metric == "cosine" else vectors
    best = np.full((len(vectors), NEIGHBOURS), -np.inf, np.float32)
    answered: dict[int, list[float]] = defaultdict(list)
    for row_keys, matrix in blocks:
        scores = _scores(compared, matrix, metric)
        for column, key in enumerate(row_keys):
            if key in number_of:
                scores[number_of[key], column] = -np.inf
            for i in wanted.get(key, ()):
                answered[i].append(float(scores[i, column]))
        best = np.partition(np.concatenate([best, scores], axis=1), -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
    return float(np.mean([_part(best[i], answered[i]) for i in range(len(vectors))]))


def _part(best: Matrix, answered: Sequence[float]) -> float:
    nearest = best[np.isfinite(best)]
    if not len(nearest):
        return 1.0
    least = float(nearest.min())
    least -= _TOLERANCE * max(1.0, abs(least))
    return min(sum(score >= least for score in answered), len(nearest)) / len(nearest)


def _scores(queries: Matrix, matrix: Matrix, metric: str) -> Matrix:
    """Returns scores (queries, rows): a nearer row has a higher one."""
    if metric == "cosine":
        return queries @ _unit(matrix).T
    products = queries @ matrix.T
    return products if metric == "ip" else 2 * products - np.square(matrix).sum(axis=1)


def _unit(matrix: Matrix) -> Matrix:
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.where(lengths, lengths, np.float32(1)), np.float32)
