"""Photographs for a GPU: as many as it takes to keep it busy for some seconds, made from a few pictures."""

import math
from collections.abc import Iterable
from pathlib import Path

from benchmarks import photographs

# With so many, decoding does not read the same picture all the time.
PICTURES = 256
# 1.3 GB of photographs of 640×480.
MOST = 24_000
_FEWEST_BATCHES = 20


def count_for(rates: Iterable[float], seconds: float, batch_size: int) -> int:
    """Returns the number of photographs, in whole batches, for a steady state of so many seconds.

    A batch that is not whole would have a shape of its own, which TensorFlow has to prepare for.

    Args:
      rates: images a second of all that may limit the run. The least one does.
      seconds: how long the steady state should take.
      batch_size: images per call of the model.
    """
    fewest = max(_FEWEST_BATCHES * batch_size, PICTURES)
    return whole_batches(min(max(min(rates) * seconds, fewest), MOST), batch_size)


def whole_batches(images: float, batch_size: int) -> int:
    """Returns the least number of images in whole batches that is no less than `images`."""
    return math.ceil(images / batch_size) * batch_size


def name(number: int) -> str:
    """Returns the name of a photograph's file."""
    return f"{number:06d}.jpg"


def extend(directory: Path, pictures: list[Path], start: int, end: int) -> None:
    """Makes the photographs numbered from `start` up to `end`.

    They are those of `photographs.numbered`. All of them are in the page cache afterwards.
    """
    directory.mkdir(parents=True, exist_ok=True)
    encoded = [picture.read_bytes() for picture in pictures]
    for number in range(start, end):
        (directory / name(number)).write_bytes(photographs.numbered(encoded, number))
