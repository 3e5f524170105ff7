"""The benchmarks' photographs: generated from seeds, once, into a cache directory.

Each has smooth structure at several scales, objects with sharp outlines, and the noise of a sensor, which takes most of
a photograph's bytes. They are JPEGs of quality 85 with chroma at half size, as cameras write them. Every third is
1600×1200 and has 240–360 kB. The others are 640×480 and have 45–65 kB. Thumbnails are 64×64 and have 2 kB.
"""

import functools
import io
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SMALL, LARGE, THUMBNAIL = (640, 480), (1600, 1200), (64, 64)
# Their directories in the cache. The number changes with the pictures.
PHOTOGRAPHS, THUMBNAILS = "photographs-1", "thumbnails-1"
_QUALITY = 85
# The range of the standard deviation, in levels. With it, the files are as large as real photographs.
_NOISE = (3.5, 5.0)


def size_of(number: int) -> tuple[int, int]:
    """Returns the (width, height) of a photograph."""
    return LARGE if number % 3 == 2 else SMALL


def encoded(number: int, size: tuple[int, int] | None = None) -> bytes:
    """Returns the JPEG of a photograph, the same bytes each time.

    Args:
      number: the number of the photograph, which is the seed.
      size: (width, height) in pixels; None for the size of this number.
    """
    rng = np.random.default_rng(number)
    width, height = size or size_of(number)
    scene = _scene(rng, min((width, height), SMALL)).resize((width, height), Image.Resampling.BICUBIC)
    noise = rng.standard_normal((height, width, 1), np.float32) * rng.uniform(*_NOISE)
    buffer = io.BytesIO()
    levels = np.clip(np.asarray(scene, np.float32) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(levels).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def with_comment(jpeg: bytes, comment: bytes) -> bytes:
    """Returns the same picture as other bytes, because equal bytes would be embedded only once."""
    segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment  # ITU-T T.81, B.2.4.5
    return jpeg[:2] + segment + jpeg[2:]


def numbered(pictures: Sequence[bytes], number: int) -> bytes:
    """Returns one of many photographs: a picture, or for a number beyond them a copy with a comment of its own."""
    picture = pictures[number % len(pictures)]
    return picture if number < len(pictures) else with_comment(picture, b"%d" % number)


def make(directory: Path, count: int, size: tuple[int, int] | None = None) -> list[Path]:
    """Returns the paths of the first `count` photographs, after making those that do not exist.

    Args:
      directory: the directory of photographs of this size.
      count: the number of photographs.
      size: (width, height) in pixels; None for the sizes of the numbers.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{number:05d}.jpg" for number in range(count)]
    missing = [(number, path) for number, path in enumerate(paths) if not path.exists()]
    if missing:
        with ProcessPoolExecutor() as processes:
            list(processes.map(functools.partial(_write, size), *zip(*missing, strict=True), chunksize=8))
    return paths


def lay_out(photographs: Iterable[Path], directory: Path) -> int:
    """Makes a directory with links to these photographs, reads each once, and returns their total size in bytes.

    Without the reading, only the first contender would wait for the disk.
    """
    directory.mkdir(parents=True)
    size = 0
    for path in photographs:
        (directory / path.name).hardlink_to(path)
        size += len(path.read_bytes())
    return size


def _write(size: tuple[int, int] | None, number: int, path: Path) -> None:
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_bytes(encoded(number, size))
    partial.rename(path)


def _scene(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    width, height = size
    levels = np.zeros((height, width, 3), np.float32)
    for cells in (3, 8, 24, 80):
        patch = Image.fromarray(rng.integers(0, 256, (cells * 3 // 4 + 1, cells, 3), dtype=np.uint8))
        levels += np.asarray(patch.resize((width, height), Image.Resampling.BICUBIC), np.float32) / cells**0.7
    levels = (levels - levels.min()) / (levels.max() - levels.min()) * 255
    scene = Image.fromarray(levels.astype(np.uint8))
    draw = ImageDraw.Draw(scene)
    for _ in range(12):
        x, y = rng.integers(width), rng.integers(height)
        half_width, half_height = rng.integers(width // 40, width * 106 // 640, 2)
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        colour = tuple(int(level) for level in rng.integers(0, 256, 3))
        shape((x - half_width, y - half_height, x + half_width, y + half_height), fill=colour)
    return scene.filter(ImageFilter.GaussianBlur(1))
