"""Pictures to try a model on where there are no photographs."""

import numpy as np

from transforms.models.engines.fixed_batches import Pixels

_TILES = 8  # in a row and in a column


def mosaics(count: int, image_size: tuple[int, int]) -> Pixels:
    """Returns pictures of tiles in random colours, uint8 (count, height, width, 3). They are the same at every call."""
    height, width = image_size
    tiles = np.random.default_rng(0).integers(0, 256, (count, _TILES, _TILES, 3), np.uint8)
    return tiles[:, np.arange(height) * _TILES // height][:, :, np.arange(width) * _TILES // width]
