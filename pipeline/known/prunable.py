"""Which rows may be deleted because their images are gone: one rule, for a table and an export's target. No Beam.

An image that the listing could not see is not gone. A row may be deleted if its key is not listed, and all of this
holds:

- its record says that the image was listed as a file of its own, and not in a shard;
- the listing would have the key if the image existed;
- neither the key nor a directory above it is a place that could not be listed or described. A broken link is such a
  place, whatever its name, because it may have led to a directory. So is an existing file that the listing has missed.
"""

from collections.abc import Iterable, Sequence

from transforms.elements import keys
from transforms.storage import globs, left_out, local, locations

# If a listing has more such places, all rows stay.
MOST_PLACES = 10_000
# The most places that a message names.
_MOST_NAMES = 10
# Replaces the name of a place in reports and messages.
TOO_MANY = f"more than {MOST_PLACES:,} places"


class Covered:
    """Tells whether a listing of some patterns has an image of a key, if the image exists."""

    def __init__(self, patterns: Sequence[str], *, include_hidden: bool = False):
        self._patterns = [
            (pattern, globs.matcher(pattern), left_out.rule(pattern, include_hidden=include_hidden))
            for pattern in patterns
        ]

    def __call__(self, key: bytes) -> bool:
        uri = keys.uri(key)
        return any(
            uri == pattern or (matches(uri) and leaves_out(uri) is None)
            for pattern, matches, leaves_out in self._patterns
        )


class Unseen:
    """The places that a listing could not list or describe, each by its key; at most MOST_PLACES of them."""

    def __init__(self, places: Iterable[bytes] = ()):
        self._places: set[bytes] = set()
        self._has_too_many = False
        for place in places:
            self.add(place)

    def add(self, place: bytes) -> None:
        """Adds the key of a file, or of a directory with all that is below it."""
        if not self._has_too_many:
            self._places.add(place.rstrip(b"/"))
            self._has_too_many = len(self._places) > MOST_PLACES
        if self._has_too_many:
            self._places.clear()

    def merge(self, other: "Unseen") -> None:
        """Adds the places of another part of the listing."""
        self._has_too_many |= other._has_too_many
        for place in other._places:
            self.add(place)

    def __str__(self) -> str:
        return TOO_MANY if self._has_too_many else ", ".join(map(_text, sorted(self._places)[:_MOST_NAMES]))

    def hides(self, key: bytes) -> str | None:
        """Returns, as text, the place that hides whether there is a file at a key, or None."""
        if self._has_too_many:
            return TOO_MANY
        end = len(key)
        while self._places and end >= 0:
            if key[:end] in self._places:
                return _text(key[:end])
            end = key.rfind(b"/", 0, end)
        uri = keys.uri(key)
        # A listing does not name every broken link: it passes over one whose name is not that of an image.
        place = local.unseen(uri) if locations.is_local(uri) else None
        return _text(keys.of_uri(place)) if place is not None else None


def _text(place: bytes) -> str:
    return keys.text(place or b"/")
