"""Drift: how far the vectors of a run lie from those of the run before.

The `Statistics` of a run's sample are stored, so that the next run can be compared without the vectors of this one.
"""

import base64
import binascii
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.report.page.sampled_images import MAX_SAMPLE, Sample
from transforms.elements.keys import hashed

# Two samples of one distribution have means that differ by chance. Beyond this many times that distance, and beyond
# this part of the spread, they differ by more than chance.
_TIMES_CHANCE = 2.0
_LEAST_SHIFT = 0.05
_LEAST_IMAGES = 8
# Two samples with a smaller share of images in common are of different images. If the images in common still have the
# same neighbours, at least with this overlap, then the mean moved because of the other images alone.
_SAME_IMAGES = 0.9
_SAME_NEIGHBOURS = 0.95
# The same for the brightness, out of 255. The brightness of photographs has about this standard deviation.
_LEAST_CHANGE_OF_LIGHT = 10.0
_BRIGHTNESS_SPREAD = 45.0
_MAX_DIMENSION = 1 << 16


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """What is stored of a sample.

    Attributes:
      digest: of the model and the preprocessing.
      images: in the sample.
      mean: of the vectors, float32 (dimension,).
      spread: root mean square distance of a vector to the mean.
      brightness: see Sample.
      keys: a hash of each key.
      nearest: rows of the nearest images of each row, (images, at most 5).
    """

    digest: str
    images: int
    mean: npt.NDArray[np.float32]
    spread: float
    brightness: float | None
    keys: tuple[str, ...]
    nearest: npt.NDArray[np.intp]

    @property
    def can_be_compared(self) -> bool:
        """Whether there are enough images, and a spread to measure in."""
        return self.images >= _LEAST_IMAGES and self.spread > 0

    def to_json(self) -> str:
        """Returns all of it in one line of ASCII."""
        facts = {
            "digest": self.digest,
            "mean": base64.b64encode(self.mean.astype("<f4").tobytes()).decode(),
            "spread": self.spread,
            "brightness": self.brightness,
            "keys": self.keys,
            "nearest": self.nearest.tolist(),
        }
        return json.dumps(facts, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Statistics":
        """Returns what `to_json` wrote.

        Raises:
          ValueError: if the text is anything else.
        """
        try:
            facts = json.loads(text)
            mean = np.frombuffer(base64.b64decode(facts["mean"], validate=True), "<f4").astype(np.float32)
            keys, nearest = tuple(map(str, facts["keys"])), np.array(facts["nearest"], np.intp)
            nearest = nearest.reshape(len(keys), -1 if nearest.size else 0)
            brightness = None if facts["brightness"] is None else float(facts["brightness"])
            statistics = cls(str(facts["digest"]), len(keys), mean, float(facts["spread"]), brightness, keys, nearest)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError, binascii.Error) as error:
            raise ValueError(f"expected the statistics of a sample ({error})") from error
        numbers = [statistics.spread, *([] if brightness is None else [brightness])]
        is_finite = bool(np.isfinite(numbers).all() and np.isfinite(mean).all())
        in_range = not nearest.size or (nearest.min() >= 0 and nearest.max() < len(keys))
        in_range = in_range and statistics.spread >= 0 and 0 <= (brightness or 0) <= 255
        if not is_finite or not in_range or len(keys) > MAX_SAMPLE or not 0 < mean.size <= _MAX_DIMENSION:
            raise ValueError("expected the statistics of a sample: a value is impossible")
        return statistics


@dataclasses.dataclass(frozen=True)
class Drift:
    """The difference between two samples.

    Attributes:
      shift: distance of the two means, in units of the earlier spread.
      by_chance: the distance that two samples of one distribution have on average, in the same unit. Images that both
        samples hold do not add to it.
      overlap: the mean share of the nearest images that are the same, over the images that both samples hold; None if
        they have too few in common.
      shared: number of images that both samples hold.
      images: in the larger one of the samples.
      brightness: the mean brightness before and now, 0 to 255; None if it is unknown.
    """

    shift: float
    by_chance: float
    overlap: float | None
    shared: int
    images: int
    brightness: tuple[float, float] | None

    @property
    def is_significant(self) -> bool:
        """Whether the vectors, or the light of the images, differ by more than chance and other images explain."""
        if self.is_of_other_images:
            return False
        return self.shift > max(_LEAST_SHIFT, _TIMES_CHANCE * self.by_chance) or bool(self.change_of_light)

    @property
    def is_of_other_images(self) -> bool:
        """Whether the samples hold different images, and those that both hold have the same neighbours."""
        has_same_neighbours = self.overlap is not None and self.overlap >= _SAME_NEIGHBOURS
        return self.shared < _SAME_IMAGES * self.images and has_same_neighbours

    @property
    def change_of_light(self) -> str:
        """What became of the images: `darker`, `brighter`, or "" if the difference is small or may be chance."""
        if self.brightness is None:
            return ""
        before, now = self.brightness
        if abs(now - before) < max(_LEAST_CHANGE_OF_LIGHT, _TIMES_CHANCE * _BRIGHTNESS_SPREAD * self.by_chance):
            return ""
        return "darker" if now < before else "brighter"


def statistics(sample: Sample, digest: str) -> Statistics | None:
    """Returns what to store of a sample of a model's vectors; None if it is empty, or its vectors are too long."""
    count, dimension = sample.vectors.shape
    if not count or dimension > _MAX_DIMENSION:
        return None
    wide = sample.vectors.astype(np.float64)
    mean = wide.mean(axis=0)
    spread = float(np.sqrt(np.square(wide - mean).sum(axis=1).mean()))
    keys = tuple(hashed(key).hex() for key in sample.keys)
    return Statistics(digest, len(sample), mean.astype(np.float32), spread, sample.brightness, keys, sample.nearest)


def between(before: Statistics, now: Statistics) -> Drift | None:
    """Returns the difference between two samples; None if they are too small, or of different models."""
    if before.digest != now.digest or before.mean.shape != now.mean.shape:
        return None
    if not before.can_be_compared or now.images < _LEAST_IMAGES:
        return None
    distance = float(np.linalg.norm(now.mean.astype(np.float64) - before.mean))
    overlap, shared = _overlap(before, now)
    alone = [(each.images - shared) / each.images**2 for each in (before, now)]
    brightness = None
    if before.brightness is not None and now.brightness is not None:
        brightness = before.brightness, now.brightness
    images = max(before.images, now.images)
    return Drift(distance / before.spread, sum(alone) ** 0.5, overlap, shared, images, brightness)


def _overlap(before: Statistics, now: Statistics) -> tuple[float | None, int]:
    common = set(before.keys) & set(now.keys)
    old, new = _neighbours(before, common), _neighbours(now, common)
    shares = [len(set(old[key]) & set(new[key])) / min(len(old[key]), len(new[key])) for key in sorted(common)
              if old[key] and new[key]]  # fmt: skip
    return (sum(shares) / len(shares) if len(shares) >= _LEAST_IMAGES else None), len(common)


def _neighbours(statistics: Statistics, common: set[str]) -> dict[str, Sequence[Any]]:
    """Returns the nearest images of each common one, as far as both samples hold them."""
    keys = statistics.keys
    return {
        key: [keys[other] for other in row if keys[other] in common]
        for key, row in zip(keys, statistics.nearest, strict=True)
        if key in common
    }
