"""Blocks: one image after the other → `DecodedBlock`s of as many images as the model gets at once."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from apache_beam.utils.windowed_value import WindowedValue

from transforms.elements.records import DecodedBlock, ImageInfo


def check_batch_size(batch_size: int) -> None:
    """Raises ValueError unless a block can have `batch_size` images."""
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r}: expected a number of images from 1")


class Blocks:
    """Collects the images of a bundle. Each image is written once, into the array of its block.

    Write the pixels of an image into `next_pixels`, then `add` it. All images of a block are of one window.
    """

    def __init__(self, size: tuple[int, int], length: int):
        """Sets the (height, width) of the images in pixels, and the number of images in a block."""
        self._shape = (length, *size, 3)
        self.forget()

    def forget(self) -> None:
        """Drops the images of an unfinished block, because their bundle has failed."""
        self._pixels: npt.NDArray[np.uint8] | None = None
        self._infos: list[ImageInfo] = []
        self._at: tuple[Any, Any] = (None, None)

    @property
    def next_pixels(self) -> npt.NDArray[np.uint8]:
        """The place of the next image, uint8 (height, width, 3)."""
        if self._pixels is None:
            self._pixels = np.empty(self._shape, np.uint8)
        return self._pixels[len(self._infos)]

    def add(self, info: ImageInfo, timestamp: Any, window: Any) -> Iterator[WindowedValue]:
        """Adds the image whose pixels were written into `next_pixels`. Yields a block that has become complete."""
        if self._infos and window != self._at[1]:
            pixels = self.next_pixels
            yield from self.finish()
            self.next_pixels[:] = pixels
        if not self._infos:
            self._at = timestamp, window
        self._infos.append(info)
        if len(self._infos) == self._shape[0]:
            yield from self.finish()

    def finish(self) -> Iterator[WindowedValue]:
        """Yields the block so far, unless it is empty."""
        if self._infos and self._pixels is not None:
            block = DecodedBlock(tuple(self._infos), self._pixels[: len(self._infos)])
            timestamp, window = self._at
            self.forget()
            yield WindowedValue(block, timestamp, (window,))
