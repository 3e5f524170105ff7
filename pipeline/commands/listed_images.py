"""The images that a run of some flags would list now, for the commands that compare images with records.

The code of a run lists and reads them, because they have to be the same images.
"""

import csv
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from transforms.elements import keys
from transforms.elements.formats import SHARD_FORMATS
from transforms.elements.one_line import one_line
from transforms.elements.records import EncodedImage, ImageRef
from transforms.encoding import image_shards
from transforms.lists.uri_lists import keys_in
from transforms.storage import listing, local_listing, locations, versioned
from transforms.storage.choice import Choice
from transforms.storage.context import DEFAULT_STORAGE, Storage


class ListedImage(NamedTuple):
    """An image as it is listed now.

    Attributes:
      key: bytes of its URI.
      version: None if the listing does not tell it, as for images that lists name. b"" if it is no file, or could not
        be listed or described: it is a failure in a run.
      encoded: its bytes, if it lies in a shard.
    """

    key: bytes
    version: bytes | None
    encoded: bytes | None = None

    @property
    def is_seen(self) -> bool:
        return self.version != b""


@dataclasses.dataclass(frozen=True)
class ListedImages:
    """The images that some patterns match: iterable any number of times, and listed anew each time.

    Iteration raises ValueError if a pattern cannot be listed, or matches nothing.

    Attributes:
      patterns, input_format, include_hidden, uri_column: as the flags of a run.
      storage: how buckets are reached.
      flag: what an error calls the patterns.
    """

    patterns: Sequence[str]
    input_format: str = "images"
    storage: Storage = DEFAULT_STORAGE
    include_hidden: bool = False
    uri_column: str | None = None
    flag: str = "--input"

    @property
    def are_in_shards(self) -> bool:
        return self.input_format in SHARD_FORMATS

    def __iter__(self) -> Iterator[ListedImage]:
        for number, pattern in enumerate(self.patterns):
            choice = Choice(self.patterns, number, include_hidden=self.include_hidden, input_format=self.input_format)
            matches = False
            try:
                is_there = not locations.is_local(pattern) or local_listing.is_there(pattern)
                for ref in listing.refs(self.storage, choice) if is_there else ():
                    matches = True
                    yield from self._images(ref)
            except (OSError, ValueError) as error:
                raise ValueError(f"{self.flag} {pattern!r} cannot be listed: {one_line(error)}") from error
            if not matches:
                raise ValueError(f"{self.flag} {pattern!r} matches nothing: expected at least one file")

    def _images(self, ref: ImageRef) -> Iterator[ListedImage]:
        """Yields the images of a listed file. A shard or list that cannot be read stands for itself, as in a run."""
        if self.input_format == "images":
            yield ListedImage(ref.key, ref.version.encode())
            return
        try:
            yield from self._in_shard(ref) if self.are_in_shards else self._in_list(ref)
        except (OSError, ValueError, MemoryError, csv.Error):
            yield ListedImage(ref.key, None)

    def _in_shard(self, ref: ImageRef) -> Iterator[ListedImage]:
        images = image_shards.read_or_failure(self.storage, ref, self.input_format, Counter(), self.include_hidden)
        for image in images:
            if isinstance(image, EncodedImage):
                yield ListedImage(image.ref.key, image.ref.version.encode(), image.encoded)
            else:
                yield ListedImage(image.key, None)

    def _in_list(self, ref: ImageRef) -> Iterator[ListedImage]:
        with versioned.opened(self.storage, ref) as file:
            for number, key in enumerate(keys_in(file, keys.uri(ref.key), self.uri_column)):
                yield ListedImage(ref.key + b"#%d" % number if isinstance(key, ValueError) else key, None)
