"""Vectors in float16."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transforms.elements.keys import text


def narrowed(vectors: npt.NDArray[np.float32], keys: Sequence[bytes]) -> npt.NDArray[np.float16]:
    """Returns vectors (n, dimension) in float16; `keys` are those of their images.

    Raises:
      ValueError: if a number is outside the range of float16; the message has the key of the first such vector.
    """
    with np.errstate(over="ignore"):
        narrow = vectors.astype(np.float16)
    lost = (np.isfinite(vectors) & ~np.isfinite(narrow)).any(axis=1)
    if lost.any():
        key = text(keys[int(lost.argmax())])
        raise ValueError(
            f"the vector of {key!r} has a number beyond {np.finfo(np.float16).max:,.0f}, the largest float16: "
            "expected vector_type float32"
        )
    return narrow
