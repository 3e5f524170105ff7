"""The sample of a run that its page shows: images, their vectors and their pictures, and how near they are."""

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

from pipeline.report import neighbours

MAX_SAMPLE = 500


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Images of a run, and their vectors.

    Attributes:
      keys: of n images, at most MAX_SAMPLE.
      vectors: float32 (n, dimension).
      thumbnails: of each image a JPEG of at most 96 pixels on the longer side, or b"" if there is none.
      brightness: mean of the pixels of all images that have a thumbnail, from 0 to 255; None if none has.
    """

    keys: tuple[bytes, ...]
    vectors: npt.NDArray[np.float32]
    thumbnails: tuple[bytes, ...]
    brightness: float | None = None

    def __post_init__(self) -> None:
        rows = {len(self.keys), len(self.vectors), len(self.thumbnails)}
        if self.vectors.ndim != 2 or len(rows) != 1 or len(self.keys) > MAX_SAMPLE:
            raise ValueError(
                f"sample of {len(self.keys)} keys, vectors of shape {self.vectors.shape} and {len(self.thumbnails)} "
                f"thumbnails: expected as many of each, at most {MAX_SAMPLE}, and vectors of shape (n, dimension)"
            )

    def __len__(self) -> int:
        return len(self.keys)

    @functools.cached_property
    def cosines(self) -> npt.NDArray[np.float32]:
        """The cosines of all pairs of vectors, (n, n)."""
        return neighbours.cosines(self.vectors)

    @functools.cached_property
    def nearest(self) -> npt.NDArray[np.intp]:
        """The rows of the nearest other images of each, nearest first, (n, at most 5)."""
        return neighbours.nearest(self.cosines)
