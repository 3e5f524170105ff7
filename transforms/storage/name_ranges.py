"""Divides sorted names, which can only be probed, into ranges of about equal size. No Beam, no storage.

A listing can begin at any name, but shows neither the number of names nor the middle one. Each probe finds the first
name at or after a string. That is enough to walk the tree of the names' characters: the characters that all names of a
range share are skipped, and where the names differ, each character begins a range of its own. These ranges are assumed
to be equally large. Ranges that are still too large a part of the whole are divided further, all of them at once.

Names compare as Cloud Storage orders them, by UTF-8 bytes, which is the order of Python's strings.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

Probe = Callable[[str], str | None]

# Up to _ENUMERATED different characters are found one after the other, a probe each: enough for digits and letters. If
# there are more, names are assumed to be spread evenly: bisection finds the last character, and _SPREAD probes divide
# the characters up to it.
_ENUMERATED = 40
_SPREAD = 64

_CHARACTERS = 0x110000
_SURROGATES = range(0xD800, 0xE000)  # no characters in UTF-8


def split(
    first_at_or_after: Probe,
    ranges: int,
    max_probes: int = 1000,
    each: Callable[..., Iterable[list["_Range"]]] = map,
) -> list[str]:
    """Returns the names at which to split, in order. The range before the first of them also holds names.

    If names are padded numbers, hashes or dates, the largest range has at most 3 times the mean. If they are numbers of
    different length, it has at most 8 times the mean.

    Args:
      first_at_or_after: the first name at or after a string, or None; the only access to the names.
      ranges: how many ranges to make; there are fewer if there are fewer names.
      max_probes: the most calls of `first_at_or_after`.
      each: `map`, or the `map` of an executor, which probes many ranges at once.
    """
    first = first_at_or_after("")
    parts = [] if first is None else [_Range(first, None, 0, 1.0)]
    left = max_probes - 1
    while large := _larger(parts, ranges):
        probes = [_Probes(first_at_or_after, left // len(large)) for _ in large]
        divided = dict(zip(large, each(_divide, large, probes), strict=True))
        left -= sum(probe.calls for probe in probes)
        parts = [part for former in parts for part in divided.get(former, [former])]
    points, group, before, whole = [], 0, 0.0, _weight(parts)
    for part in parts:
        # A millionth, because floating-point sums of equal weights are not exact.
        if part.weight and (now := int(before / whole * ranges + 1e-6)) > group:
            points.append(part.first)
            group = now
        before += part.weight
    return points


@dataclasses.dataclass(frozen=True)
class _Range:
    """The names from `first` to before `end`. They share `first[:depth]`, and are assumed to be `weight` of all names.

    A `whole` range cannot be divided. The weight of a single name is 0.
    """

    first: str
    end: str | None
    depth: int
    weight: float
    whole: bool = False

    def holds(self, name: str | None) -> bool:
        """Returns whether a name after `first` is in the range."""
        if name is None or (self.end is not None and name >= self.end):
            return False
        return name.startswith(self.first[: self.depth])


class _Spent(Exception):
    """No probes are left."""


class _Probes:
    """A probe that may be called at most `allowed` times, and counts its calls."""

    def __init__(self, first_at_or_after: Probe, allowed: int):
        self._first_at_or_after = first_at_or_after
        self._allowed = allowed
        self.calls = 0

    def __call__(self, name: str | None) -> str | None:
        if name is None:
            return None
        if self.calls == self._allowed:
            raise _Spent
        self.calls += 1
        return self._first_at_or_after(name)


def _divide(part: _Range, probe: _Probes) -> list[_Range]:
    """Returns the parts of a range, in order: one for each character in which its names begin to differ."""
    firsts = [part.first]
    try:
        depth, second = _branch(part, probe)
        part = dataclasses.replace(part, depth=depth)
        if second is not None and part.holds(second):
            if depth == len(part.first):  # one name is the prefix of all the others
                alone = _Range(part.first, second, depth, 0.0, whole=True)
                return [alone, dataclasses.replace(part, first=second)]
            firsts.append(second)
            for name in _siblings(part, second, probe):
                firsts.append(name)
        else:
            return [dataclasses.replace(part, weight=0.0, whole=True)]
    except _Spent:  # the names found so far are valid points too
        pass
    ends, whole = [*firsts[1:], part.end], len(firsts) == 1
    weight = part.weight / len(firsts)
    return [_Range(first, end, part.depth, weight, whole) for first, end in zip(firsts, ends, strict=True)]


def _larger(parts: list[_Range], ranges: int) -> list[_Range]:
    """Returns the parts that can be divided and are larger than one of `ranges` equal ranges."""
    most = _weight(parts) / ranges
    return [part for part in parts if part.weight > most and not part.whole]


def _weight(parts: list[_Range]) -> float:
    return sum(part.weight for part in parts)


def _branch(part: _Range, probe: _Probes) -> tuple[int, str | None]:
    """Returns how many characters all names of a range share, and the first name that differs from `first` after them.

    The length is found by growing steps, then by bisection, because names share either nothing or long directories.
    """
    shared, step, first = part.depth, 1, part.first
    differ, second = len(first) + 1, None
    while second is None and shared < len(first):
        length = min(shared + step, len(first))
        name = probe(_after(first[:length]))
        if part.holds(name):
            differ, second = length, name
        else:
            shared, step = length, 2 * step
    if second is None:
        name = probe(f"{first} ")  # no character of a name sorts before the space
        return shared, name if part.holds(name) else None
    while differ - shared > 1:
        length = (shared + differ) // 2
        name = probe(_after(first[:length]))
        if part.holds(name):
            differ, second = length, name
        else:
            shared = length
    return shared, second


def _siblings(part: _Range, second: str, probe: _Probes) -> Iterator[str]:
    """Yields the first name for each character after that of `second` in which the names of a range differ."""
    prefix, depth, last = part.first[: part.depth], part.depth, second
    for _ in range(_ENUMERATED):
        name = probe(_after(prefix + last[depth]))
        if name is None or not part.holds(name):
            return
        yield name
        last = name
    low, high = ord(last[depth]), _CHARACTERS
    while high - low > 1:
        middle = (low + high) // 2
        name = probe(prefix + _character(middle))
        if name is not None and part.holds(name):
            low = ord(name[depth])
        else:
            high = middle
    start = ord(last[depth]) + 1
    for number in range(_SPREAD):
        name = probe(prefix + _character(start + (low - start) * number // _SPREAD))
        if name is not None and part.holds(name) and name > last:
            yield name
            last = name


def _after(prefix: str) -> str | None:
    """Returns the first string after all strings that begin with `prefix`; None if there is none."""
    rest = prefix.rstrip(chr(_CHARACTERS - 1))
    return rest[:-1] + _character(ord(rest[-1]) + 1) if rest else None


def _character(code: int) -> str:
    return chr(_SURROGATES.stop if code in _SURROGATES else code)
