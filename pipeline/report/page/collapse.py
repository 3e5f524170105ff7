"""Collapsed vectors: what wrong preprocessing, or a model without weights, makes of different images."""

import dataclasses

import numpy as np
import numpy.typing as npt

from pipeline.model_checks.similarity import COLLAPSED_COSINE

# Fewer images may be similar for a good reason.
LEAST_IMAGES = 8
_CONSTANT_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class Variety:
    """How different the vectors of a sample are.

    Attributes:
      images: in the sample.
      median_cosine: of all pairs of two images.
      constant: components that have one value in all vectors.
      dimension: all components.
    """

    images: int
    median_cosine: float
    constant: int
    dimension: int

    @property
    def is_collapsed(self) -> bool:
        """Whether most images have nearly the same vector."""
        return self.images >= LEAST_IMAGES and self.median_cosine > COLLAPSED_COSINE

    @property
    def is_mostly_constant(self) -> bool:
        """Whether most components say nothing about an image."""
        return self.images >= LEAST_IMAGES and self.constant > _CONSTANT_SHARE * self.dimension


def variety(vectors: npt.NDArray[np.float32], similar: npt.NDArray[np.float32]) -> Variety:
    """Returns how different the vectors are.

    Args:
      vectors: float32 (n, dimension).
      similar: their cosines, (n, n), as neighbours.cosines returns them.
    """
    count, dimension = vectors.shape
    pairs = similar[np.triu_indices(count, 1)]
    median = float(np.median(pairs)) if pairs.size else 0.0
    constant = int((np.ptp(vectors, axis=0) == 0).sum()) if count else 0
    return Variety(count, median, constant, dimension)
