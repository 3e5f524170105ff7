"""A small real task, to tell three photographs by crops of them, and what it takes to be better than luck at it."""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.flags import options

PHOTOGRAPHS = ("cat.jpg", "coffee.jpg", "rocket.jpg")
CLASSES = ("cat", "coffee", "rocket")


def write_crops(directory: Path, count: int, size: int = 48) -> Path:
    """Writes `count` crops of each photograph, a folder each: any place, 1/4 to 1/2 of the height, some mirrored."""
    rng = np.random.default_rng(0)
    for name, label in zip(PHOTOGRAPHS, CLASSES, strict=True):
        (directory / label).mkdir(parents=True)
        with Image.open(Path(options.SAMPLES).parent / name) as photograph:
            for i in range(count):
                side = int(photograph.height * rng.uniform(0.25, 0.5))
                left, top = rng.integers(photograph.width - side), rng.integers(photograph.height - side)
                crop = photograph.crop((left, top, left + side, top + side)).resize((size, size))
                if rng.integers(2):
                    crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                crop.save(directory / label / f"{i:03d}.jpg", quality=90)
    return directory


def beyond_luck(images: int, chance: float) -> float:
    """Returns the accuracy that guessing reaches once in a million: the tail of a binomial distribution."""
    probability, hits = 0.0, images + 1
    while hits > 0:
        hits -= 1
        probability += math.comb(images, hits) * chance**hits * (1 - chance) ** (images - hits)
        if probability > 1e-6:
            break
    return (hits + 1) / images
