"""The speed of decoding and embedding: measured here on a sample, or taken from a flag."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from transforms.concurrent.cores import usable_cores
from transforms.images import decoding
from transforms.images.resizing import Resizing
from transforms.models.spec import ModelSpec
from transforms.storage import files, stores

# The most images of a sample that are decoded.
_SAMPLED = 64
# The time of an image outside its decoder and the model: Python code of this project and Beam, which holds the GIL.
# Measured by `python -m benchmarks.lock_time`: docs/performance.md.
_PYTHON_SECONDS = 0.0002
# How long the model is called.
_MEASURED_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Speed:
    """Seconds per image, to the microsecond.

    Attributes:
      decode: of one core.
      python: of one core, outside the decoder and the model; a process does this for one image at a time.
      embed: of one worker if `on_gpu`, else of one core.
      on_gpu: whether embedding leaves the cores to decoding.
      decoded, embedded: the sources of the two numbers, for people.
      sample_bytes: mean size of the images that were decoded.
    """

    decode: float
    python: float
    embed: float
    on_gpu: bool
    decoded: str
    embedded: str
    sample_bytes: int

    @property
    def before_model(self) -> float:
        """Seconds of one core for everything before the model."""
        return round(self.decode + self.python, 6)


def measure(model: ModelSpec, *, batch_size: int, sample: str, images_per_second: float | None, has_gpu: bool) -> Speed:
    """Measures decoding, and also embedding unless a flag has its speed, on a few images on this machine.

    Args:
      model, batch_size: the model to embed with, and images per call of it.
      sample: a pattern of local images.
      images_per_second: of a worker with a GPU; None to measure on this machine's CPU.
      has_gpu: whether the job has workers with a GPU.

    Raises:
      ValueError: if there is nothing to decode, or the model is not on this machine.
    """
    encoded = [files.read(file.path) for file in files.match(sample, limit=_SAMPLED)]
    decode_seconds, pixels = _decoding(encoded, model.image_size, model.preprocessing.resizing)
    if not pixels:
        raise ValueError(f"--sample {sample!r}: expected images that can be decoded, found none among {len(encoded)}")
    mean_bytes = sum(map(len, encoded)) // len(encoded)
    if images_per_second:
        if not has_gpu:
            raise ValueError("--images_per_second is the speed of a GPU worker: give --preset dataflow-gpu too")
        embed_seconds, embedded = 1 / images_per_second, f"--images_per_second {images_per_second:g}, as given"
    else:
        embed_seconds, embedded = _embedding_on_a_core(model, pixels, batch_size, has_gpu)
    return Speed(
        decode=round(decode_seconds, 6),
        python=_PYTHON_SECONDS,
        embed=round(embed_seconds, 6),
        on_gpu=bool(images_per_second),
        decoded=f"measured here on {len(pixels)} images of {mean_bytes:,} bytes on average",
        embedded=embedded,
        sample_bytes=mean_bytes,
    )


def _decoding(encoded: Sequence[bytes], size: tuple[int, int], resizing: Resizing) -> tuple[float, list[Any]]:
    """Returns seconds per image on one core, and the pixels of the images that can be decoded."""
    pixels, seconds = [], 0.0
    for content in encoded:
        try:
            decoding.decode(content, size, resizing)  # the first call loads the codec
            start = time.perf_counter()
            decoded = decoding.decode(content, size, resizing)
            seconds += time.perf_counter() - start
        except decoding.ImageError:
            continue
        pixels.append(decoded.pixels)
    return seconds / max(len(pixels), 1), pixels


def _embedding_on_a_core(model: ModelSpec, pixels: Sequence[Any], batch_size: int, has_gpu: bool) -> tuple[float, str]:
    """Returns seconds per image on one core of this machine, and how they were measured."""
    import numpy as np

    from transforms.models.engines import loading, throughput

    if stores.is_bucket(model.location):
        raise ValueError(
            f"--model {model.name!r} would have to be fetched to be measured: give --images_per_second RATE"
        )
    batch = np.stack([pixels[i % len(pixels)] for i in range(batch_size)])
    images_per_second = throughput.images_per_second(loading.load(model, batch_size), batch, _MEASURED_SECONDS)
    cores = usable_cores()
    embedded = f"measured here on {cores} cores of a CPU"
    if has_gpu:
        embedded += "; the GPU was not measured: give --images_per_second as measured on one such worker"
    return cores / images_per_second, embedded
