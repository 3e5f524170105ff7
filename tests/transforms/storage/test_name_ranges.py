"""transforms.storage.name_ranges: each name in one range, ranges of about equal size, few probes."""

import bisect
import hashlib
import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest

from transforms.storage import name_ranges

RANDOM = random.Random(4)
HASHES = [hashlib.sha256(b"%d" % i).hexdigest() for i in range(20_000)]
DAYS = [date(2023, 1, 1) + timedelta(days) for days in range(1000)]

# Names as they are found in buckets, and the most that the largest of 64 ranges may have, in means.
NAMINGS = {
    "padded numbers": ([f"photos/img_{i:06}.jpg" for i in range(20_000)], 3),
    "numbers from elsewhere": ([f"p/IMG_{i}.JPG" for i in range(31_415, 51_415)], 3),
    "unpadded numbers": ([f"{i}.jpg" for i in range(20_000)], 8),
    "hashes": ([f"{h}.jpg" for h in HASHES], 3),
    "hashes in directories": ([f"in/{h[:2]}/{h[2:4]}/{h}" for h in HASHES], 3),
    "dates": ([f"cam/{d:%Y/%m/%d}/{i:04}.jpg" for d in DAYS for i in range(20)], 3),
    "times": ([f"cam/{d:%Y-%m-%d}T{h:02}:{m:02}:07Z.jpg" for d in DAYS for h in range(24) for m in (3, 34)], 3),
    "base 62": ([f"{int(h[:15], 16):018}{h[:3]}"[-11:] for h in HASHES], 3),
    "code points": (["".join(chr(RANDOM.randrange(0x4E00, 0x9FFF)) for _ in range(4)) for _ in range(20_000)], 3),
    "accents": ([f"{c}{h}" for h in HASHES for c in "aàèéz"], 3),
    "a long directory": ([f"{'very/long/directory/' * 40}{h}" for h in HASHES], 3),
    "a name that others go on from": (["a"] + [f"a{h}" for h in HASHES], 3),
    "one large directory": ([f"a/{h}" for h in HASHES] + [f"{c}/1" for c in "bcdefghijk"], 3),
}


class Listing:
    """Sorted names, and how often they were probed."""

    def __init__(self, names):
        self.names = sorted(set(names), key=lambda name: name.encode())
        self.probes = 0

    def first_at_or_after(self, name):
        name.encode()  # a server takes UTF-8
        self.probes += 1
        i = bisect.bisect_left(self.names, name.encode(), key=lambda other: other.encode())
        return self.names[i] if i < len(self.names) else None

    def sizes(self, points):
        """Returns how many names each range has; asserts that the ranges are in order and none is empty."""
        assert points == sorted(set(points), key=lambda point: point.encode())
        bounds = [0, *(self.names.index(point) for point in points), len(self.names)]
        return [end - start for start, end in itertools.pairwise(bounds)]


@pytest.mark.parametrize("naming", NAMINGS)
def test_ranges_are_balanced_and_probes_few(naming):
    names, factor = NAMINGS[naming]
    listing = Listing(names)
    points = name_ranges.split(listing.first_at_or_after, 64)
    sizes = listing.sizes(points)
    assert 30 <= len(sizes) <= 64 and min(sizes) > 0
    assert max(sizes) <= factor * sum(sizes) / 64
    assert listing.probes <= 500


@pytest.mark.parametrize("allowed", [1, 2, 5, 20, 100])
@pytest.mark.parametrize("naming", ["hashes", "dates", "code points"])
def test_never_more_probes_than_allowed(naming, allowed):
    listing = Listing(NAMINGS[naming][0])
    points = name_ranges.split(listing.first_at_or_after, 64, max_probes=allowed)
    assert listing.probes <= allowed
    assert sum(listing.sizes(points)) == len(listing.names)


@pytest.mark.parametrize("count", range(6))
def test_few_names(count):
    listing = Listing([f"in/{i}.jpg" for i in range(count)])
    assert sum(listing.sizes(name_ranges.split(listing.first_at_or_after, 8))) == count


def test_random_names_of_odd_characters():
    odd = ["\x01", " ", "/", "a", "\x7f", "ÿ", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"]
    for seed in range(200):
        source = random.Random(seed)
        names = ["".join(source.choices(odd, k=source.randrange(1, 6))) for _ in range(source.randrange(60))]
        listing = Listing(names)
        points = name_ranges.split(listing.first_at_or_after, source.randrange(1, 40))
        assert sum(listing.sizes(points)) == len(listing.names)


def test_an_executor_gives_the_same():
    listing = Listing(HASHES)
    with ThreadPoolExecutor(8) as pool:
        points = name_ranges.split(listing.first_at_or_after, 64, each=pool.map)
    assert points == name_ranges.split(listing.first_at_or_after, 64)
