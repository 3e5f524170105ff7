"""Listing a bucket: a pattern → ranges of names that many workers list at once. No Beam.

A pattern without a bucket is a ValueError, and a request that fails a StorageError.
"""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from transforms.elements.records import ImageRef
from transforms.storage import globs, name_ranges, stores, versioned
from transforms.storage.choice import Choice
from transforms.storage.context import Storage
from transforms.storage.stores.store import Stored, in_range, split

# Ranges of names per pattern. With a million names, each has about 16 pages.
RANGES = 64

# So many names are listed one after the other. Dividing more names needs hundreds of requests.
STRAIGHT = 10_000

# The suffixes of empty objects that stand for directories.
_DIRECTORY = ("/", "_$folder$")

# Probes in flight while names are divided into ranges.
_PROBES = 16


class Range(NamedTuple):
    """The names from `start` to before `end`; "" for no limit."""

    start: str
    end: str


def ranges(storage: Storage, pattern: str) -> list[Range]:
    """Returns ranges of about equal size that cover a pattern; a single one if STRAIGHT names hold all its objects.

    A pattern with brackets that is the name of an object means this object.
    """
    if _is_object(storage, pattern):
        return [_alone(split(pattern)[1])]
    store, front = stores.of(pattern), _front(pattern)
    *of_object, whole = _whole(pattern)

    def first_at_or_after(name: str) -> str | None:
        stored = next(store.listed(storage, front, start=max(name, whole.start), end=whole.end, limit=1), None)
        return split(stored.path)[1] if stored else None

    points = []
    names = store.listed(storage, front, start=whole.start, end=whole.end, limit=STRAIGHT + 1)
    if sum(1 for _ in names) > STRAIGHT:
        with ThreadPoolExecutor(_PROBES) as pool:
            points = name_ranges.split(first_at_or_after, RANGES, each=pool.map)
    return [*of_object, *(Range(*ends) for ends in itertools.pairwise([whole.start, *points, whole.end]))]


def match(storage: Storage, choice: Choice, name_range: tuple[str, str] | None = None) -> Iterator[ImageRef]:
    """Yields the objects that a choice takes: all of them, or those in one of `ranges`."""
    for stored in objects(storage, choice.pattern, name_range):
        if choice.takes(stored.path):
            yield versioned.ref_of(stored)


def objects(storage: Storage, pattern: str, name_range: tuple[str, str] | None = None) -> Iterator[Stored]:
    """Yields the objects among which those are that a pattern matches: all of them, or those in one of `ranges`.

    It leaves out the empty objects that consoles make for directories, whose names end in a slash, and Hadoop's.
    """
    parts: Sequence[tuple[str, str]] = [name_range] if name_range else _parts(storage, pattern)
    for start, end in parts:
        for stored in stores.of(pattern).listed(storage, _front(pattern), start=start, end=end):
            name = split(stored.path)[1]
            if in_range(name, start, end) and not (name.endswith(_DIRECTORY) and not stored.size):
                yield stored


def check_brackets(storage: Storage, pattern: str) -> None:
    """Raises ValueError if brackets are wildcards in a pattern, although a directory of exactly this name exists.

    The message has the pattern that means the directory. Otherwise each worker, and each later run that looks for its
    own images, would have to ask again whether the directory exists.
    """
    bucket, (*directories, last) = pattern[: -len(split(pattern)[1])], split(pattern)[1].split("/")
    for number, directory in enumerate(directories):
        if "*" in directory or "?" in directory:
            return
        if "[" in directory.replace("[[]", ""):
            prefix = "/".join([*directories[:number], directory, ""]).replace("[[]", "[")
            if next(stores.of(pattern).listed(storage, bucket + prefix, limit=1), None) is None:
                return
            directories[number] = directory.replace("[", "[[]")
            meant = f"{bucket}{'/'.join([*directories, last])}"
            raise ValueError(
                f"brackets are wildcards here, and there is a directory {prefix!r}: expected {meant!r}, which means it"
            )


def _parts(storage: Storage, pattern: str) -> list[Range]:
    return [_alone(split(pattern)[1])] if _is_object(storage, pattern) else _whole(pattern)


def _whole(pattern: str) -> list[Range]:
    """Returns the range of all names that may match; for the name of an object or directory, one for each."""
    name = split(_front(pattern))[1]
    if not name or not globs.is_object_or_directory(pattern):
        return [Range("", "")]
    directory = name.rstrip("/")
    below = Range(f"{directory}/", f"{directory}0")  # 0 comes after the slash
    return [below] if name.endswith("/") else [_alone(name), below]


def _alone(name: str) -> Range:
    return Range(name, f"{name}\0")


def _is_object(storage: Storage, pattern: str) -> bool:
    """Returns whether a pattern with brackets is the name of an object. With other wildcards it would match itself."""
    name = split(pattern)[1]
    if "[" not in name or "*" in name or "?" in name:
        return False
    try:
        stores.of(pattern).described(storage, pattern)
    except (FileNotFoundError, PermissionError):  # the right to list does not include the right to read
        return False
    return True


def _front(pattern: str) -> str:
    """Returns the front of the URIs of all objects that match. `[[]` matches a bracket."""
    bucket, name = split(pattern)
    scheme = pattern.partition("://")[0]
    return f"{scheme}://{bucket}/" + globs.literal_front(name).replace("[[]", "[")
