"""Listing: a pattern → ranges of names, and an `ImageRef` of each file in them, wherever the files are."""

from collections.abc import Iterator, Sequence

from transforms import storage as stores
from transforms.elements import keys
from transforms.elements.records import ImageRef
from transforms.storage import files, globs, local_listing, locations
from transforms.storage.choice import Choice
from transforms.storage.context import Storage


def ranges(storage: Storage, pattern: str) -> Sequence[tuple[str, str]]:
    """Returns ranges that cover a pattern: the first name, and the name before which to stop; "" for no limit.

    Only Cloud Storage can list a part of the names. Elsewhere there is one range. Raises as `refs`.
    """
    return stores.gcs_listing.ranges(storage, pattern) if locations.is_gcs(pattern) else [("", "")]


def refs(storage: Storage, choice: Choice, name_range: tuple[str, str] | None = None) -> Iterator[ImageRef]:
    """Yields a ref for each file that a choice takes. It has no version if it is no file that can be read.

    Args:
      storage: see `Storage`.
      choice: of one pattern.
      name_range: one of `ranges`; by default all names.

    Raises:
      OSError, ValueError: if the pattern cannot be listed.
    """
    if locations.is_gcs(choice.pattern):
        return stores.gcs_listing.match(storage, choice, name_range)
    return local_listing.match(choice) if locations.is_local(choice.pattern) else _elsewhere(choice)


def _elsewhere(choice: Choice) -> Iterator[ImageRef]:
    pattern = choice.pattern
    listed = files.match(pattern)
    if not listed and globs.is_object_or_directory(pattern):
        listed = files.match(f"{pattern.rstrip('/')}/**")
    for metadata in listed:
        if choice.takes(metadata.path):
            yield ImageRef(keys.of_uri(metadata.path), files.version(metadata), metadata.size_in_bytes)
