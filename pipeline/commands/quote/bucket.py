"""What a bucket of images costs a job: requests, the bytes that leave a region, and the time that a ramp adds."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from transforms.elements.formats import SHARD_FORMATS

STORES = ("gs", "s3", "az")
# The job runs on Google's machines, so what it reads from other stores leaves their region.
_OF_THE_JOB = "gs"
_LISTED_AT_ONCE = 1000  # objects
TAR_BYTES = 500_000_000
# https://cloud.google.com/storage/docs/request-rate: a bucket serves some 5,000 reads a second at first. Above that,
# the rate of requests should double no faster than every 20 minutes.
_READS_AT_FIRST, _DOUBLING_SECONDS = 5000, 1200


@dataclasses.dataclass(frozen=True)
class Requests:
    """The requests of a job.

    Attributes:
      objects: number of objects.
      gets, lists: number of requests.
      dollars: their price; None if the price table has none.
      full_rate: GETs per second of all workers; None if their number is unknown.
      ramp_seconds: until the job may read at that rate; None likewise, and for stores without such advice.
      ramp_adds_seconds: by which the job takes longer for it; None likewise.
    """

    objects: int
    gets: int
    lists: int
    dollars: float | None
    full_rate: float | None
    ramp_seconds: float | None
    ramp_adds_seconds: float | None


@dataclasses.dataclass(frozen=True)
class Bucket:
    """The bucket of a job.

    Attributes:
      store: one of STORES.
      prices: of the store, as in the price table, in US dollars.
      requests: as the images are.
      in_tars: as if the images were in tars of TAR_BYTES; None if they are in shards.
      gigabytes: that leave the bucket's region; None if its location is unknown.
      dollars: the price of these; None if that or the price is unknown.
    """

    store: str
    prices: Mapping[str, Any]
    requests: Requests
    in_tars: Requests | None
    gigabytes: float | None
    dollars: float | None

    def lines(self) -> list[str]:
        """Returns it for people."""
        source = f"{self.prices['date']}: {self.prices['source']}" if self.prices else "nowhere: give them by --prices"
        return [
            f"  bucket   {self.store}://, besides; prices of {source}",
            f"    {_requests_text(self.requests, self.prices)}",
            f"    {self._leaving_text()}",
            *([f"    {text}"] if (text := _ramp_text(self.requests)) else []),
            *([f"    {text}"] if (text := self._tars_text()) else []),
        ]

    def _leaving_text(self) -> str:
        if self.gigabytes is None:
            return "bytes that leave a region: unknown without --bucket_location"
        if not self.gigabytes:
            return "bytes that leave a region: none, the bucket is where the job is"
        name = _leaving_price(self.store)
        price = (
            f"× ${self.prices[name]:g} = ${self.dollars:,.2f}" if self.dollars is not None else f"at an unknown {name}"
        )
        return f"bytes that leave a region: {self.gigabytes:,.1f} GB {price}"

    def _tars_text(self) -> str:
        if not self.in_tars:
            return ""
        faster, now = self.in_tars, self.requests
        gains = []
        if now.dollars is not None and faster.dollars is not None and now.dollars - faster.dollars >= 0.01:
            gains.append(f"${now.dollars - faster.dollars:,.2f} cheaper")
        if now.ramp_adds_seconds and now.ramp_adds_seconds >= 1:
            gains.append(f"{_minutes(now.ramp_adds_seconds - (faster.ramp_adds_seconds or 0.0))} faster")
        if not gains:
            return ""
        return (
            f"in {faster.objects:,} tars of {TAR_BYTES / 1e6:g} MB, each job would be {' and '.join(gains)}; "
            "packing them reads each object once"
        )


def of(
    inputs: Sequence[str],
    input_format: str,
    *,
    images: int,
    image_bytes: int,
    seconds: float,
    workers: int | None,
    region: str,
    location: str | None,
    prices: Mapping[str, Mapping[str, Any]],
) -> Bucket | None:
    """Returns what the bucket of the inputs costs; None if they are in none.

    Args:
      inputs, input_format: the values of the flags. With several stores, the first.
      images, image_bytes: number and mean size.
      seconds: of one worker that reads, for all images.
      workers: the most that read at once; None if unknown.
      region: of the job.
      location: of the bucket; None if unknown.
      prices: store → its prices.
    """
    stores = [scheme for scheme, colon, _ in (each.partition("://") for each in inputs) if colon and scheme in STORES]
    if not stores:
        return None
    store = stores[0]
    of_store = prices.get(store, {})
    images_per_second = images * workers / seconds if workers else None
    in_tars = math.ceil(images * image_bytes / TAR_BYTES)
    tars = _requests(store, in_tars, in_tars, _pages(in_tars), images_per_second, images, of_store)
    files = tars
    if input_format not in SHARD_FORMATS:
        # Each object of a list is looked up before it is read.
        gets, lists = (2 * images, 0) if input_format == "list" else (images, _pages(images))
        files = _requests(store, images, gets, lists, images_per_second, images, of_store)
    gigabytes = dollars = None
    if store != _OF_THE_JOB or location:
        leaves = store != _OF_THE_JOB or (location or "").lower() != region.lower()
        gigabytes = images * image_bytes / 1e9 if leaves else 0.0
        price = of_store.get(_leaving_price(store)) if leaves else 0.0
        dollars = round(gigabytes * price, 2) if price is not None else None
    return Bucket(store, of_store, files, None if files is tars else tars, gigabytes, dollars)


def _requests(
    store: str,
    objects: int,
    gets: int,
    lists: int,
    images_per_second: float | None,
    images: int,
    prices: Mapping[str, Any],
) -> Requests:
    dollars = None
    if "million_gets" in prices and "million_lists" in prices:
        dollars = round((gets * prices["million_gets"] + lists * prices["million_lists"]) / 1e6, 2)
    rate = images_per_second * gets / images if images_per_second else None
    of_ramp = ramp(gets, rate) if rate and store == "gs" else (None, None)
    return Requests(objects, gets, lists, dollars, rate, *of_ramp)


def ramp(gets: int, rate: float) -> tuple[float, float]:
    """Returns the seconds until a job may read `rate` objects a second, and those by which its `gets` take longer.

    The rate begins at _READS_AT_FIRST, and doubles in _DOUBLING_SECONDS.
    """
    if rate <= _READS_AT_FIRST:
        return 0.0, 0.0
    until_full = _DOUBLING_SECONDS * math.log2(rate / _READS_AT_FIRST)
    a_doubling = _DOUBLING_SECONDS / math.log(2)  # the integral of 2^(t / D) is D / ln 2 × 2^(t / D)
    meanwhile = a_doubling * (rate - _READS_AT_FIRST)
    if gets >= meanwhile:
        return until_full, until_full - meanwhile / rate
    return until_full, _DOUBLING_SECONDS * math.log2(1 + gets / (a_doubling * _READS_AT_FIRST)) - gets / rate


def _pages(objects: int) -> int:
    return math.ceil(objects / _LISTED_AT_ONCE)


def _leaving_price(store: str) -> str:
    """Returns the name of the price of a GB that leaves a bucket's region for the job's."""
    return "gb_between_regions" if store == _OF_THE_JOB else "gb_to_internet"


def _requests_text(requests: Requests, prices: Mapping[str, Any]) -> str:
    numbers = f"{requests.gets:,} GET and {requests.lists:,} LIST"
    if requests.dollars is None:
        return f"{numbers}: the price table has no million_gets and million_lists for them"
    a_million = f"${prices['million_gets']:g} and ${prices['million_lists']:g} a million"
    return f"{numbers}, at {a_million}: ${requests.dollars:,.2f}"


def _ramp_text(requests: Requests) -> str:
    if requests.full_rate is None:
        return "ramp: unknown without --max_num_workers"
    if requests.ramp_seconds is None or requests.ramp_adds_seconds is None:
        return ""
    rate = f"ramp: {requests.full_rate:,.0f} GET a second of all workers"
    if not requests.ramp_seconds:
        return f"{rate}, which a bucket serves at once"
    adds = _minutes(requests.ramp_adds_seconds)
    return f"{rate} from minute {requests.ramp_seconds / 60:.0f} on, for which the job takes {adds} more"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"
