"""Exact search: the vectors nearest to a query, among blocks of any number of vectors, in bounded memory.

A key may occur again in a later block, as after several runs. Its last vector counts.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

# More candidates than asked for: a later vector of the same key may take one's place.
_SPARE = 256


# What stands for an image: its key, or a number.
Key = TypeVar("Key", bytes, int)


class Neighbour(NamedTuple, Generic[Key]):
    """An image, and the cosine between its vector and the query."""

    key: Key
    cosine: float


def nearest(
    blocks: Callable[[], Iterable[tuple[Sequence[Key], npt.NDArray[np.float32]]]], count: int
) -> list[Neighbour[Key]]:
    """Returns the nearest images, the nearest first; of equal cosines the least key first.

    Args:
      blocks: returns keys with their cosines, float32 (n,), block by block. It is called once, and again if later
        vectors replaced so many candidates that others may be nearer. Minus infinity marks what is no neighbour.
      count: the largest number of neighbours.
    """
    capacity = count + _SPARE
    while True:
        candidates: _Candidates[Key] = _Candidates(capacity)
        for keys, values in blocks():
            candidates.add(keys, values)
        best = candidates.best(count)
        if candidates.are_nearest(best, count):
            return best
        capacity *= 8


def cosines(
    matrix: npt.NDArray[np.float32], query: npt.NDArray[np.float32], lengths: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Returns the cosine of each row to a query, float32 (n,); 0 where a vector is zero, -1 where it has no length.

    Args:
      matrix: float32 (n, dimension).
      query: float32 (dimension,).
      lengths: as `lengths_of` returns them; None to compute them now.
    """
    with np.errstate(all="ignore"):
        products = (lengths_of(matrix) if lengths is None else lengths) * lengths_of(query[None])
        quotients = np.where(products == 0, np.float32(0), matrix @ query / products)
        return np.where(np.isfinite(quotients), np.clip(quotients, -1, 1), np.float32(-1))


def lengths_of(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns the length of each row, float32 (n,): NaN or infinity if the row has any."""
    with np.errstate(all="ignore"):
        lengths: npt.NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
        return lengths


class _Candidates(Generic[Key]):
    """The best of the images so far, each with its last vector."""

    def __init__(self, capacity: int):
        self._capacity = capacity
        self._cosines: dict[Key, float] = {}
        self._refused = -math.inf  # the largest cosine of an image that is no candidate

    def add(self, keys: Sequence[Key], values: npt.NDArray[np.float32]) -> None:
        for key in self._cosines.keys() & set(keys):
            del self._cosines[key]  # a later vector of the same image follows
        for row in np.flatnonzero(values > self._refused).tolist():
            self._cosines[keys[row]] = float(values[row])
        if len(self._cosines) > 2 * self._capacity:
            self._shrink()

    def best(self, count: int) -> list[Neighbour[Key]]:
        ordered = sorted(self._cosines.items(), key=lambda item: (-item[1], item[0]))
        return [Neighbour(key, cosine) for key, cosine in ordered[:count]]

    def are_nearest(self, best: Sequence[Neighbour[Key]], count: int) -> bool:
        """Returns whether no image that was refused can be nearer than the best."""
        return self._refused == -math.inf or (len(best) == count and best[-1].cosine >= self._refused)

    def _shrink(self) -> None:
        ordered = sorted(self._cosines.items(), key=lambda item: -item[1])
        self._cosines = dict(ordered[: self._capacity])
        if dropped := ordered[self._capacity :]:
            self._refused = max(self._refused, dropped[0][1])
