"""What a job on Dataflow would cost: images × seconds an image → worker-hours → dollars, each step shown.

Startup, driver installation, idle workers, retries, requests to Cloud Storage and BigQuery are not in it.
"""

import dataclasses
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.presets import Accelerator, Shape
from transforms.cores import usable_cores
from transforms.images import decoding
from transforms.models.spec import ModelSpec
from transforms.storage import files

PRICES = Path(__file__).with_name("prices.toml")
_SAMPLED = 64
_MEASURED_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Prices:
    """US dollars: of a batch worker's vCPU, GB of memory and GB of disk an hour, of a GPU an hour, of a shuffled GB."""

    source: str
    date: str
    region: str
    vcpu: float
    memory_gb: float
    disk_gb: float
    shuffle_gb: float
    gpu: dict[str, float]


def read_prices(path: str | None) -> Prices:
    """Returns a price table, this project's where there is no path.

    Raises:
      ValueError: if it is none, or misses something.
    """
    place = Path(path) if path else PRICES
    try:
        table = tomllib.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"--prices {str(place)!r} cannot be read: {error}") from error
    try:
        worker = table["worker"]
        return Prices(
            source=str(table["source"]),
            date=str(table["date"]),
            region=str(table["region"]),
            vcpu=float(worker["vcpu"]),
            memory_gb=float(worker["memory_gb"]),
            disk_gb=float(worker["disk_gb"]),
            shuffle_gb=float(table["shuffle"]["gb"]),
            gpu={name: float(price) for name, price in table["gpu"].items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"--prices {str(place)!r}: expected what pipeline/quote/prices.toml has, and missed {error}"
        ) from error


@dataclasses.dataclass(frozen=True)
class Workers:
    """Workers of one kind: their machine type and what it has, GPUs, GB of disk."""

    machine_type: str
    shape: Shape
    accelerator: Accelerator | None
    disk_gb: int

    def hour(self, prices: Prices) -> tuple[float, str]:
        """Returns what one costs an hour, and how that is reckoned.

        Raises:
          ValueError: if the price of its GPU is unknown.
        """
        parts = [
            (self.shape.vcpus, prices.vcpu),
            (self.shape.memory_gb, prices.memory_gb),
            (self.disk_gb, prices.disk_gb),
        ]
        if self.accelerator:
            gpu = self.accelerator.gpu
            if gpu not in prices.gpu:
                raise ValueError(
                    f"the price table has no {gpu!r}: copy pipeline/quote/prices.toml, add it, and give --prices FILE"
                )
            parts.append((self.accelerator.count, prices.gpu[gpu]))
        dollars = round(sum(amount * price for amount, price in parts), 6)
        return dollars, " + ".join(f"{amount:g} × {f'{price:f}'.rstrip('0')}" for amount, price in parts)


@dataclasses.dataclass(frozen=True)
class Speed:
    """Seconds an image, to the microsecond.

    Attributes:
      decode: of one core.
      embed: of one worker where `on_gpu`, else of one core.
      on_gpu: whether embedding leaves the cores to decoding.
      decoded, embedded: where the numbers are from, for people.
      sample_bytes: mean size of the images that were decoded.
    """

    decode: float
    embed: float
    on_gpu: bool
    decoded: str
    embedded: str
    sample_bytes: int


@dataclasses.dataclass(frozen=True)
class Item:
    """One line of a bill: hours of workers or GB, how they come about, what one costs and how, and the cost."""

    what: str
    amount: float
    unit: str
    reckoned: str
    price: float
    priced: str
    dollars: float


@dataclasses.dataclass(frozen=True)
class Option:
    """One way to run the job, and its bill."""

    name: str
    items: list[Item]
    dollars: float


def options(
    count: int, speed: Speed, prices: Prices, plain: Workers, gpu: Workers | None, shuffled_bytes: int
) -> list[Option]:
    """Returns the bills: on plain workers alone where there is no GPU, else fused and separate.

    Args:
      count: images.
      speed: of decoding and embedding.
      prices: what things cost.
      plain: workers without a GPU.
      gpu: workers with one.
      shuffled_bytes: of an image's pixels and vector, which cross the network where stages are separate.
    """
    if gpu is None:
        return [_option("plain workers", [_on_one("workers", count, speed, plain, prices)])]
    fused = _option("fused", [_on_one("GPU workers", count, speed, gpu, prices)])
    embed, said = (speed.embed, f"{speed.embed:.6f} s") if speed.on_gpu else _shared(speed.embed, gpu)
    decode = _shared(speed.decode, plain)
    # Dataflow Shuffle counts what is written and what is read.
    gigabytes = round(2 * count * shuffled_bytes / 1e9, 3)
    separate = [
        _hours("GPU workers, embedding", count, embed, said, gpu, prices),
        _hours("plain workers, decoding", count, *decode, plain, prices),
        Item(
            "shuffled, written and read",
            gigabytes,
            "GB",
            f"2 × {count:,} × {shuffled_bytes:,} bytes",
            prices.shuffle_gb,
            "",
            round(gigabytes * prices.shuffle_gb, 2),
        ),
    ]
    return [fused, _option("separate", separate)]


def _on_one(what: str, count: int, speed: Speed, workers: Workers, prices: Prices) -> Item:
    cores = workers.shape.vcpus
    if speed.on_gpu:
        seconds = max(speed.decode / cores, speed.embed)
        said = f"max({speed.decode:.6f} s / {cores} vCPUs, {speed.embed:.6f} s)"
    else:
        seconds = (speed.decode + speed.embed) / cores
        said = f"({speed.decode:.6f} + {speed.embed:.6f}) s / {cores} vCPUs"
    return _hours(what, count, seconds, said, workers, prices)


def _shared(core_seconds: float, workers: Workers) -> tuple[float, str]:
    cores = workers.shape.vcpus
    return core_seconds / cores, f"{core_seconds:.6f} s / {cores} vCPUs"


def _hours(what: str, count: int, seconds: float, said: str, workers: Workers, prices: Prices) -> Item:
    hours = round(count * seconds / 3600, 3)
    price, priced = workers.hour(prices)
    return Item(what, hours, "h", f"{count:,} × {said} / 3600", price, priced, round(hours * price, 2))


def _option(name: str, items: list[Item]) -> Option:
    return Option(name, items, round(sum(item.dollars for item in items), 2))


def measure(
    model: ModelSpec, *, resize_mode: str, batch_size: int, sample: str, images_per_second: float | None, has_gpu: bool
) -> Speed:
    """Measures decoding, and embedding unless its speed is given, on a few images here.

    Raises:
      ValueError: if there is nothing to decode, or the model is not on this machine.
    """
    encoded = [files.read(found.path) for found in files.match(sample, limit=_SAMPLED)]
    decode, decoded = _decoding(encoded, model.image_size, resize_mode)
    if not decoded:
        raise ValueError(f"--sample {sample!r}: expected images that can be decoded, found none among {len(encoded)}")
    mean = sum(map(len, encoded)) // len(encoded)
    measured = f"measured here on {len(decoded)} images of {mean:,} bytes on average"
    if images_per_second:
        embed, embedded = 1 / images_per_second, f"--images_per_second {images_per_second:g}, as given"
        on_gpu = has_gpu
        if not has_gpu:
            raise ValueError("--images_per_second is the speed of a GPU worker: give --preset dataflow-gpu too")
    else:
        if model.location.startswith("gs://"):
            raise ValueError(
                f"--model {model.name!r} would have to be fetched to be measured: give --images_per_second RATE"
            )
        embed, on_gpu = _embedding(model, decoded, batch_size) * usable_cores(), False
        embedded = f"measured here on {usable_cores()} cores of a CPU" + (
            "; the GPU is not: give --images_per_second as measured on one such worker" if has_gpu else ""
        )
    return Speed(round(decode, 6), round(embed, 6), on_gpu, measured, embedded, mean)


def _decoding(encoded: Sequence[bytes], size: tuple[int, int], resize_mode: str) -> tuple[float, list[Any]]:
    """Returns seconds an image on one core, and the pixels of those that can be decoded."""
    pixels, seconds = [], 0.0
    for content in encoded:
        try:
            decoding.decode(content, size, resize_mode)  # the first time loads the codec
            start = time.perf_counter()
            decoded = decoding.decode(content, size, resize_mode)
            seconds += time.perf_counter() - start
        except decoding.ImageError:
            continue
        pixels.append(decoded.pixels)
    return seconds / max(len(pixels), 1), pixels


def _embedding(model: ModelSpec, pixels: Sequence[Any], batch_size: int) -> float:
    """Returns seconds an image on all cores of this machine."""
    import numpy as np

    from transforms.models.engines import loading, throughput

    batch = np.stack([pixels[i % len(pixels)] for i in range(batch_size)])
    return 1 / throughput.images_per_second(loading.load(model, batch_size), batch, _MEASURED_SECONDS)
