"""Listing: a pattern → ranges of names, and an `ImageRef` of each file in them, wherever the files are."""

from collections.abc import Iterator, Sequence

from transforms.elements.records import ImageRef
from transforms.storage import files, globs, local_listing, locations, object_listing, stores, versioned
from transforms.storage.choice import Choice
from transforms.storage.context import Storage


def ranges(storage: Storage, pattern: str) -> Sequence[tuple[str, str]]:
    """Returns ranges that cover a pattern: the first name, and the name before which to stop; "" for no limit.

    Only buckets can list a part of the names. Elsewhere there is one range. Raises as `refs`.
    """
    return object_listing.ranges(storage, pattern) if stores.is_bucket(pattern) else [("", "")]


def refs(storage: Storage, choice: Choice, name_range: tuple[str, str] | None = None) -> Iterator[ImageRef]:
    """Yields a ref for each file that a choice takes. It has no version if it is no file that can be read.

    Args:
      storage: see `Storage`.
      choice: of one pattern.
      name_range: one of `ranges`; by default all names.

    Raises:
      OSError, ValueError: if the pattern cannot be listed.
    """
    if stores.is_bucket(choice.pattern):
        return object_listing.match(storage, choice, name_range)
    return local_listing.match(choice) if locations.is_local(choice.pattern) else _elsewhere(choice)


def _elsewhere(choice: Choice) -> Iterator[ImageRef]:
    pattern = choice.pattern
    listed = files.match(pattern)
    if not listed and globs.is_object_or_directory(pattern):
        listed = files.match(f"{pattern.rstrip('/')}/**")
    for found in listed:
        if choice.takes(found.path):
            yield versioned.ref_of(found)
