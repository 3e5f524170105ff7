"""Listing Cloud Storage: a pattern → ranges of names that many workers list at once."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from google.api_core.page_iterator import HTTPIterator
from google.cloud import storage as cloud

from transforms.storage import files, gcs, name_ranges

# Ranges of names of one pattern: of a million names each has about 16 pages.
RANGES = 64

PAGE_SIZE = 1000  # the most that Cloud Storage gives at once

# Probes in flight while names are divided into ranges.
_PROBES = 16


class Range(NamedTuple):
    """The objects that match `pattern`, from the name `start` to before `end`; "" where it is open."""

    pattern: str
    start: str
    end: str


class Listed(NamedTuple):
    """An object that matches."""

    path: str
    stored: gcs.Stored


def ranges(pattern: str, billing_project: str | None) -> list[Range]:
    """Returns ranges of about equal size that hold together what a pattern matches; one where a page holds it all.

    Raises:
      ValueError: if the pattern has no bucket; the client's own errors where it cannot be listed.
    """
    bucket = gcs.bucket(pattern, billing_project)
    prefix = _prefix(pattern)

    def first_at_or_after(name: str) -> str | None:
        found = _blobs(bucket, prefix, name, "", "items(name),nextPageToken", max_results=1)
        return next((blob.name for blob in found), None)

    listing = _blobs(bucket, prefix, "", "", "items(name),nextPageToken")
    next(listing.pages, None)
    points = []
    if listing.next_page_token:
        with ThreadPoolExecutor(_PROBES) as pool:
            points = name_ranges.split(first_at_or_after, RANGES, each=pool.map)
    return [Range(pattern, start, end) for start, end in itertools.pairwise(["", *points, ""])]


def match(pattern: str, billing_project: str | None) -> Iterator[Listed]:
    """Yields what a pattern matches, page by page; a glob as Beam has them, where `**` crosses directories.

    Left out are the empty objects that consoles make for directories, whose names end in a slash.

    Raises:
      ValueError: if the pattern has no bucket; the client's own errors where it cannot be listed.
    """
    return match_range(Range(pattern, "", ""), billing_project)


def match_range(within: Range, billing_project: str | None) -> Iterator[Listed]:
    """Yields what a range holds; as `match` does."""
    pattern, start, end = within
    prefix = _prefix(pattern)
    bucket = gcs.bucket(pattern, billing_project)
    matches = files.matcher(f"{pattern}*" if pattern.endswith("/") else pattern)
    fields = "items(name,generation,size,crc32c),nextPageToken"
    for blob in _blobs(bucket, prefix, start, end, fields):
        path = f"{gcs.SCHEME}{bucket.name}/{blob.name}"
        # A server that knows no ranges gives all names.
        in_range = start <= blob.name and (not end or blob.name < end)
        if in_range and matches(path) and not (blob.name.endswith("/") and not blob.size):
            yield Listed(path, gcs.stored(blob))


def _blobs(
    bucket: cloud.Bucket, prefix: str, start: str, end: str, fields: str, max_results: int | None = None
) -> HTTPIterator:
    return gcs.client().list_blobs(
        bucket,
        prefix=prefix or None,
        start_offset=start or None,
        end_offset=end or None,
        fields=fields,
        page_size=PAGE_SIZE,
        max_results=max_results,
        timeout=gcs.TIMEOUT,
        retry=gcs.RETRY,
    )


def _prefix(pattern: str) -> str:
    """Returns what all names that match begin with."""
    name = gcs.split(pattern)[1]
    return name[: next((i for i, character in enumerate(name) if character in "*?["), len(name))]
