"""What a job on Dataflow would cost: images × seconds an image → worker-hours → dollars, each step shown.

Startup, driver installation, idle workers, retries, requests to Cloud Storage and BigQuery are not in it.
"""

import dataclasses
import tomllib
from pathlib import Path

from pipeline.presets import Accelerator, Shape
from pipeline.quote.speed import Speed

PRICES = Path(__file__).with_name("prices.toml")
# The ways to run a job: without a GPU; all stages on workers with one; only inference on them.
PLAIN, FUSED, SEPARATE = "plain workers", "fused", "separate"


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
    """Returns the price table in a TOML file; without a path, this project's.

    Raises:
      ValueError: if the file cannot be read, or misses something.
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
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"--prices {str(file)!r}: expected what pipeline/quote/prices.toml has, and missed {error}"
        ) from error


@dataclasses.dataclass(frozen=True)
class Workers:
    """Workers of one kind: their machine type and what it has, GPUs, GB of disk."""

    machine_type: str
    shape: Shape
    accelerator: Accelerator | None
    disk_gb: int

    def hour(self, prices: Prices) -> tuple[float, str]:
        """Returns what one worker costs an hour in dollars, and how that is reckoned.

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
        return dollars, " + ".join(f"{amount:g} × {in_full(price)}" for amount, price in parts)


@dataclasses.dataclass(frozen=True)
class Item:
    """One line of a bill.

    Attributes:
      what: is paid for.
      amount, unit: hours of workers, `h`, or `GB`.
      reckoned: how the amount comes about.
      price: of one unit, in dollars.
      priced: how the price comes about, "" where it stands in the table.
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
    """One way to run the job, and what it costs."""

    name: str
    items: list[Item]
    dollars: float

    @classmethod
    def of(cls, name: str, items: list[Item]) -> "Bill":
        return cls(name, items, round(sum(item.dollars for item in items), 2))


def bills(
    count: int, speed: Speed, prices: Prices, plain: Workers, gpu: Workers | None, shuffled_bytes: int
) -> list[Bill]:
    """Returns the bills: on plain workers alone where there is no GPU, else for both ways to use one.

    Args:
      count: images.
      speed: of decoding and embedding.
      prices: what things cost.
      plain: workers without a GPU.
      gpu: workers with one.
      shuffled_bytes: of an image's pixels and vector, which cross the network where stages are separate.
    """
    if gpu is None:
        return [Bill.of(PLAIN, [_on_one_kind("workers", count, speed, plain, prices)])]
    return [
        Bill.of(FUSED, [_on_one_kind("GPU workers", count, speed, gpu, prices)]),
        Bill.of(SEPARATE, _on_both_kinds(count, speed, prices, plain, gpu, shuffled_bytes)),
    ]


def _on_one_kind(what: str, count: int, speed: Speed, workers: Workers, prices: Prices) -> Item:
    """Returns the hours of workers that decode and embed; a GPU embeds while the cores decode."""
    cores = workers.shape.vcpus
    if speed.on_gpu:
        seconds = max(speed.decode / cores, speed.embed)
        reckoned = f"max({speed.decode:.6f} s / {cores} vCPUs, {speed.embed:.6f} s)"
    else:
        seconds = (speed.decode + speed.embed) / cores
        reckoned = f"({speed.decode:.6f} + {speed.embed:.6f}) s / {cores} vCPUs"
    return _hours(what, count, seconds, reckoned, workers, prices)


def _on_both_kinds(
    count: int, speed: Speed, prices: Prices, plain: Workers, gpu: Workers, shuffled_bytes: int
) -> list[Item]:
    """Returns the hours of workers that embed, of others that decode, and what crosses between them."""
    embed = (speed.embed, f"{speed.embed:.6f} s") if speed.on_gpu else _on_all_cores(speed.embed, gpu)
    decode = _on_all_cores(speed.decode, plain)
    # Dataflow Shuffle counts what is written and what is read.
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
    """Returns the seconds of a worker for what takes a core so long, and how they come about."""
    cores = workers.shape.vcpus
    return core_seconds / cores, f"{core_seconds:.6f} s / {cores} vCPUs"


def _hours(what: str, count: int, seconds: float, reckoned: str, workers: Workers, prices: Prices) -> Item:
    hours = round(count * seconds / 3600, 3)
    price, priced = workers.hour(prices)
    return Item(what, hours, "h", f"{count:,} × {reckoned} / 3600", price, priced, round(hours * price, 2))


def in_full(price: float) -> str:
    """Returns a price without an exponent and without zeros at its end."""
    return f"{price:f}".rstrip("0")
