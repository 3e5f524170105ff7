"""The cost of a job on Dataflow: images × seconds per image → worker-hours → dollars, with each step shown.

It does not include startup, driver installation, idle workers, retries, and requests to BigQuery.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.commands.quote.speed import Speed
from pipeline.runners.presets import Accelerator, Shape

PRICES = Path(__file__).with_name("prices.toml")
# The ways to run a job: without GPUs; all stages on workers with a GPU; only inference on workers with a GPU.
PLAIN, FUSED, SEPARATE = "plain workers", "fused", "separate"


@dataclasses.dataclass(frozen=True)
class Prices:
    """Prices in US dollars.

    Attributes:
      source, date, region: of the prices.
      vcpu, memory_gb, disk_gb: per hour of a vCPU, a GB of memory and a GB of disk of a batch worker.
      shuffle_gb: per GB that is shuffled.
      gpu: name of a GPU → price per hour.
      buckets: store → its prices, with their source and date: see bucket.py. Those that are missing are unknown.
    """

    source: str
    date: str
    region: str
    vcpu: float
    memory_gb: float
    disk_gb: float
    shuffle_gb: float
    gpu: dict[str, float]
    buckets: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


def read_prices(path: str | None) -> Prices:
    """Returns the price table in a TOML file, by default this project's.

    Raises:
      ValueError: if the file cannot be read, or lacks an entry.
    """
    file = Path(path) if path else PRICES
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"--prices {str(file)!r} cannot be read: {error}") from error
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
            buckets={store: _of_store(prices) for store, prices in table.get("bucket", {}).items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"--prices {str(file)!r}: expected the entries of pipeline/commands/quote/prices.toml, "
            f"missing or wrong: {error}"
        ) from error


def _of_store(prices: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: str(prices[name]) for name in ("source", "date")}
    return texts | {name: float(price) for name, price in prices.items() if name not in texts}


@dataclasses.dataclass(frozen=True)
class Workers:
    """Workers of one kind: their machine type and its shape, their GPUs, and GB of disk."""

    machine_type: str
    shape: Shape
    accelerator: Accelerator | None
    disk_gb: int

    def hour(self, prices: Prices) -> tuple[float, str]:
        """Returns the price of one worker per hour, in dollars, and its calculation.

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
                    f"the price table has no {gpu!r}: copy pipeline/commands/quote/prices.toml, add it, "
                    "and give --prices FILE"
                )
            parts.append((self.accelerator.count, prices.gpu[gpu]))
        dollars = round(sum(amount * price for amount, price in parts), 6)
        return dollars, " + ".join(f"{amount:g} × {in_full(price)}" for amount, price in parts)


@dataclasses.dataclass(frozen=True)
class Item:
    """One line of a bill.

    Attributes:
      what: the name of the item.
      amount, unit: hours of workers, `h`, or `GB`.
      reckoned: the calculation of the amount.
      price: of one unit, in dollars.
      priced: the calculation of the price; "" if the table has the price.
      dollars: amount × price.
    """

    what: str
    amount: float
    unit: str
    reckoned: str
    price: float
    priced: str
    dollars: float


@dataclasses.dataclass(frozen=True)
class Bill:
    """One way to run the job, and its cost."""

    name: str
    items: list[Item]
    dollars: float = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dollars", round(sum(item.dollars for item in self.items), 2))


def bills(
    count: int, speed: Speed, prices: Prices, plain: Workers, gpu: Workers | None, shuffled_bytes: int
) -> list[Bill]:
    """Returns one bill for plain workers if there is no GPU, else one for each of the two ways to use a GPU.

    `count` is the number of images. The pixels and the vector of an image have `shuffled_bytes`, which cross the
    network if stages are separate.
    """
    if gpu is None:
        return [Bill(PLAIN, [_on_one_kind("workers", count, speed, plain, prices)])]
    return [
        Bill(FUSED, [_on_one_kind("GPU workers", count, speed, gpu, prices)]),
        Bill(SEPARATE, _on_both_kinds(count, speed, prices, plain, gpu, shuffled_bytes)),
    ]


def _on_one_kind(what: str, count: int, speed: Speed, workers: Workers, prices: Prices) -> Item:
    """Returns the hours of workers that decode and embed. A GPU embeds while the cores decode."""
    cores = workers.shape.vcpus
    if speed.on_gpu:
        seconds = max(speed.before_model / cores, speed.python, speed.embed)
        reckoned = f"max({speed.before_model:.6f} s / {cores} vCPUs, {speed.python:.6f} s, {speed.embed:.6f} s)"
    else:
        seconds = (speed.before_model + speed.embed) / cores
        reckoned = f"({speed.before_model:.6f} + {speed.embed:.6f}) s / {cores} vCPUs"
    return _hours(what, count, seconds, reckoned, workers, prices)


def _on_both_kinds(
    count: int, speed: Speed, prices: Prices, plain: Workers, gpu: Workers, shuffled_bytes: int
) -> list[Item]:
    """Returns the hours of workers that embed, the hours of workers that decode, and the data between them."""
    embed = (speed.embed, f"{speed.embed:.6f} s") if speed.on_gpu else _on_all_cores(speed.embed, gpu)
    decode = _on_all_cores(speed.before_model, plain)
    # Dataflow Shuffle counts the bytes that are written and the bytes that are read.
    gigabytes = round(2 * count * shuffled_bytes / 1e9, 3)
    return [
        _hours("GPU workers, embedding", count, *embed, gpu, prices),
        _hours("plain workers, decoding", count, *decode, plain, prices),
        Item(
            what="shuffled, written and read",
            amount=gigabytes,
            unit="GB",
            reckoned=f"2 × {count:,} × {shuffled_bytes:,} bytes",
            price=prices.shuffle_gb,
            priced="",
            dollars=round(gigabytes * prices.shuffle_gb, 2),
        ),
    ]


def _on_all_cores(core_seconds: float, workers: Workers) -> tuple[float, str]:
    """Returns the seconds that all cores of a worker take for work of `core_seconds`, and the calculation."""
    cores = workers.shape.vcpus
    return core_seconds / cores, f"{core_seconds:.6f} s / {cores} vCPUs"


def _hours(what: str, count: int, seconds: float, reckoned: str, workers: Workers, prices: Prices) -> Item:
    hours = round(count * seconds / 3600, 3)
    price, priced = workers.hour(prices)
    return Item(what, hours, "h", f"{count:,} × {reckoned} / 3600", price, priced, round(hours * price, 2))


def in_full(price: float) -> str:
    """Returns a price without an exponent and without trailing zeros."""
    return f"{price:f}".rstrip("0")
