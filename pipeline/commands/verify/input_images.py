"""The images of --input, and whether each of them is in one place: a record or a failure."""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from pipeline.commands.verify.findings import Findings, counted
from pipeline.commands.verify.identities import Identities, identity
from pipeline.commands.verify.run_files import RunFiles
from transforms.elements import keys
from transforms.elements.formats import SHARD_FORMATS
from transforms.elements.one_line import one_line
from transforms.elements.records import EncodedImage, ImageRef
from transforms.encoding import image_shards
from transforms.lists.uri_lists import keys_in
from transforms.storage import listing, local_listing, locations, versioned
from transforms.storage.choice import Choice
from transforms.storage.context import Storage


class Image(NamedTuple):
    """An image as it is listed now.

    Attributes:
      key: bytes of its URI.
      version: None if the listing does not tell, which is so for the images that lists name. b"" for what is no file,
        or could not be listed or described: a run fails it.
      encoded: its bytes, if it lies in a shard.
    """

    key: bytes
    version: bytes | None
    encoded: bytes | None = None

    @property
    def is_seen(self) -> bool:
        return self.version != b""


def images(
    patterns: Sequence[str],
    input_format: str,
    storage: Storage,
    *,
    include_hidden: bool = False,
    uri_column: str | None = None,
    flag: str = "--input",
) -> Iterator[Image]:
    """Yields the images that a run of these flags would list. `flag` is what an error calls the patterns.

    Raises:
      ValueError: if a pattern cannot be listed, or matches nothing.
    """
    for number, pattern in enumerate(patterns):
        choice = Choice(patterns, number, include_hidden=include_hidden, input_format=input_format)
        matches = False
        try:
            is_there = not locations.is_local(pattern) or local_listing.is_there(pattern)
            for ref in listing.refs(storage, choice) if is_there else ():
                matches = True
                yield from _images(ref, input_format, storage, include_hidden, uri_column)
        except (OSError, ValueError) as error:
            raise ValueError(f"{flag} {pattern!r} cannot be listed: {one_line(error)}") from error
        if not matches:
            raise ValueError(f"{flag} {pattern!r} matches nothing: expected at least one file")


def _images(
    ref: ImageRef, input_format: str, storage: Storage, include_hidden: bool, uri_column: str | None
) -> Iterator[Image]:
    if input_format in SHARD_FORMATS:
        yield from _in_shard(ref, input_format, storage, include_hidden)
    elif input_format == "list":
        yield from _in_list(ref, storage, uri_column)
    else:
        yield Image(ref.key, ref.version.encode())


def _in_shard(ref: ImageRef, input_format: str, storage: Storage, include_hidden: bool) -> Iterator[Image]:
    for image in image_shards.read_or_failure(storage, ref, input_format, Counter(), include_hidden):
        if isinstance(image, EncodedImage):
            yield Image(image.ref.key, image.ref.version.encode(), image.encoded)
        else:
            yield Image(image.key, None)


def _in_list(ref: ImageRef, storage: Storage, uri_column: str | None) -> Iterator[Image]:
    try:
        with versioned.opened(storage, ref) as file:
            for number, key in enumerate(keys_in(file, keys.uri(ref.key), uri_column)):
                yield Image(ref.key + b"#%d" % number if isinstance(key, ValueError) else key, None)
    except (OSError, ValueError, MemoryError, csv.Error):  # a failure of the list's own, under its own key
        yield Image(ref.key, None)


def check(
    listing: Callable[[], Iterable[Image]],
    runs: Sequence[RunFiles],
    recorded: Identities,
    versions: Identities,
    findings: Findings,
) -> None:
    """Checks that each image that is listed has a record or a failure.

    Args:
      listing: returns the images, each time from the start.
      runs: the runs that are checked, the latest last.
      recorded, versions: identities of the keys, and of the keys with their versions, that any run of the output has a
        record of. An image with a record of its version is skipped by later runs.
      findings: gets the outcome.
    """
    with findings.check("input: images listed now") as outcome:
        listed, as_listed = Identities(), Identities()
        for image in listing():
            listed.add(identity(image.key))
            as_listed.add(identity(image.key) if image.version is None else identity(image.key, image.version))
        placed = as_listed.also_in(versions, recorded) | listed.also_in(*(run.failed_keys for run in runs))
        changed = ~placed & listed.also_in(runs[-1].keys)
        outdated = ~placed & ~changed & listed.also_in(recorded)
        lost = ~placed & ~changed & ~outdated
        outcome.text = f"input: {counted(len(listed.distinct()), 'image')} listed now, each with a record or a failure"
        kinds = (
            (findings.problem, "an image of the input has no record and no failure", listed.where(lost)),
            (findings.problem, "an image of the input has a record of another version only", listed.where(outdated)),
            (findings.note, "an image of the input has changed since the run", listed.where(changed)),
        )
        if any(hashes for _, _, hashes in kinds):
            for image in listing():
                _name(image.key, kinds)
        for run in runs:
            unlisted = run.keys.where(~run.keys.also_in(listed))
            if unlisted:
                for record in run.records():
                    _name(record.key, [(findings.note, "a record of an image that is not in the input", unlisted)])


def _name(key: bytes, kinds: Iterable[tuple[Callable[[str, str], None], str, set[bytes]]]) -> None:
    """Reports a key under the kinds whose set has it, once each."""
    hashed = identity(key)
    for report, kind, hashes in kinds:
        if hashed in hashes:
            hashes.remove(hashed)
            report(kind, keys.name(key))
