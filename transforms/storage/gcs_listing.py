"""Listing Cloud Storage: a pattern → ranges of names that many workers list at once.

A pattern without a bucket is a ValueError, and a request that fails a StorageError.
"""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from transforms.elements import keys
from transforms.elements.records import ImageRef
from transforms.storage import gcs, globs, locations, name_ranges
from transforms.storage.choice import Choice
from transforms.storage.context import Storage

# Ranges of names per pattern. With a million names, each has about 16 pages.
RANGES = 64

PAGE_SIZE = 1000  # the most objects that Cloud Storage returns per request

# The suffixes of empty objects that stand for directories.
_DIRECTORY = ("/", "_$folder$")

_NAMES = "items(name),nextPageToken"

# Probes in flight while names are divided into ranges.
_PROBES = 16


class Range(NamedTuple):
    """The names from `start` to before `end`; "" for no limit."""

    start: str
    end: str


def ranges(storage: Storage, pattern: str) -> list[Range]:
    """Returns ranges of about equal size that cover a pattern; a single one if all its objects fit on a page.

    A pattern with brackets that is the name of an object means this object.
    """
    bucket = gcs.bucket(storage, pattern)
    if _is_object(storage, pattern):
        return [_alone(gcs.split(pattern)[1])]
    *of_object, whole = _whole(pattern)
    prefix = whole.start or _prefix(pattern)

    def first_at_or_after(name: str) -> str | None:
        blobs = gcs.blobs(bucket, prefix, _NAMES, start=name, max_results=1)
        return next((blob.name for blob in blobs), None)

    listing = gcs.blobs(bucket, prefix, _NAMES, page_size=PAGE_SIZE)
    next(listing.pages, None)
    points = []
    if listing.next_page_token:
        with ThreadPoolExecutor(_PROBES) as pool:
            points = name_ranges.split(first_at_or_after, RANGES, each=pool.map)
    return [*of_object, *(Range(*ends) for ends in itertools.pairwise([whole.start, *points, whole.end]))]


def match(storage: Storage, choice: Choice, name_range: tuple[str, str] | None = None) -> Iterator[ImageRef]:
    """Yields the objects that a choice takes, page by page: all of them, or those in one of `ranges`.

    It leaves out the empty objects that consoles make for directories, whose names end in a slash, and Hadoop's.
    """
    pattern = choice.pattern
    bucket = gcs.bucket(storage, pattern)
    fields = "items(name,generation,size,crc32c),nextPageToken"
    parts: Sequence[tuple[str, str]] = [name_range] if name_range else _parts(storage, pattern)
    for start, end in parts:
        for blob in gcs.blobs(bucket, _prefix(pattern), fields, start=start, end=end, page_size=PAGE_SIZE):
            path = f"{locations.GCS_SCHEME}{bucket.name}/{blob.name}"
            # A server without support for ranges returns all names.
            in_range = start <= blob.name and (not end or blob.name < end)
            if in_range and not (blob.name.endswith(_DIRECTORY) and not blob.size) and choice.takes(path):
                yield ImageRef(keys.of_uri(path), *gcs.metadata(blob))


def check_brackets(storage: Storage, pattern: str) -> None:
    """Raises ValueError if brackets are wildcards in a pattern, although a directory of exactly this name exists.

    The message has the pattern that means the directory. Otherwise each worker, and each later run that looks for its
    own images, would have to ask again whether the directory exists.
    """
    bucket, (*directories, last) = gcs.bucket(storage, pattern), gcs.split(pattern)[1].split("/")
    for number, directory in enumerate(directories):
        if "*" in directory or "?" in directory:
            return
        if "[" in directory.replace("[[]", ""):
            prefix = "/".join([*directories[:number], directory, ""]).replace("[[]", "[")
            if next(iter(gcs.blobs(bucket, prefix, _NAMES, max_results=1)), None) is None:
                return
            directories[number] = directory.replace("[", "[[]")
            meant = f"{locations.GCS_SCHEME}{bucket.name}/{'/'.join([*directories, last])}"
            raise ValueError(
                f"brackets are wildcards here, and there is a directory {prefix!r}: expected {meant!r}, which means it"
            )


def _parts(storage: Storage, pattern: str) -> list[Range]:
    return [_alone(gcs.split(pattern)[1])] if _is_object(storage, pattern) else _whole(pattern)


def _whole(pattern: str) -> list[Range]:
    """Returns the range of all names that may match; for the name of an object or directory, one for each."""
    name = _prefix(pattern)
    if not name or not globs.is_object_or_directory(pattern):
        return [Range("", "")]
    directory = name.rstrip("/")
    below = Range(f"{directory}/", f"{directory}0")  # 0 comes after the slash
    return [below] if name.endswith("/") else [_alone(name), below]


def _alone(name: str) -> Range:
    return Range(name, f"{name}\0")


def _is_object(storage: Storage, pattern: str) -> bool:
    """Returns whether a pattern with brackets is the name of an object. With other wildcards it would match itself."""
    name = gcs.split(pattern)[1]
    if "[" not in name or "*" in name or "?" in name:
        return False
    try:
        gcs.describe(storage, pattern)
    except (FileNotFoundError, PermissionError):  # the right to list does not include the right to read
        return False
    return True


def _prefix(pattern: str) -> str:
    """Returns the prefix of all names that match. `[[]` matches a bracket."""
    return globs.literal_front(gcs.split(pattern)[1]).replace("[[]", "[")
