"""The rows that the runs have now, of one model: read from their files into a difference."""

import argparse
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from pipeline.commands.export import stored_rows
from pipeline.commands.export.difference import Difference
from pipeline.commands.export.progress_line import ProgressLine
from pipeline.commands.export.target import Model, Place, Row
from pipeline.commands.listed_images import ListedImages
from pipeline.flags import flag_types
from pipeline.known import vector_shards
from pipeline.known.prunable import Covered, Unseen
from transforms.encoding.stored_embeddings import Identity

# Rows of a block, which is in memory at once and is written as a whole. It has fewer rows if their vectors are long.
_BLOCK_ROWS = 2_500
_BLOCK_BYTES = 16 * 2**20


@dataclasses.dataclass(frozen=True)
class Runs:
    """The files of runs, in the order of the runs, and the model whose vectors are exported."""

    shards: Sequence[str]
    model: Model

    def blocks(self, places: Iterable[Place]) -> Iterator[list[Row]]:
        """Yields the rows at some places, given in the order of the files, in blocks that fit into memory."""
        rows = stored_rows.rows(self.shards, places, self.model)
        size = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // (4 * self.model.dimension)))
        while block := list(itertools.islice(rows, size)):
            yield block


def read(args: argparse.Namespace, difference: Difference) -> Runs:
    """Adds the rows of --embeddings to a difference, except those that --prune removes.

    Raises:
      ValueError: if there are no vectors, or those of several models without --model_digest, or a pattern of --prune
        cannot be listed.
    """
    directory, wanted = flag_types.absolute(args.embeddings), args.model_digest
    shards = vector_shards.paths(directory)
    progress = ProgressLine(args.screen, "reading", None)
    seen: set[str] = set()
    done = itertools.count(1)

    def of_model(records: Iterable[tuple[int, Identity]]) -> Iterator[tuple[int, Identity]]:
        for place, identity in records:
            seen.add(identity.model_digest)
            if wanted is None and len(seen) > 1:
                raise ValueError(
                    f"--embeddings {directory!r} has vectors of several models, with the digests "
                    f"{' and '.join(sorted(seen))}: choose one by --model_digest"
                )
            if wanted in (None, identity.model_digest):
                yield place, identity
            if (number := next(done)) % 1_000 == 0:
                progress.show(number)

    for number, path in enumerate(shards):
        difference.add_current(number, of_model(stored_rows.identities(path)))
    progress.clear()
    first = next(difference.current(), None)
    if first is None:
        chosen = f" of --model_digest {wanted}" if wanted else ""
        others = f", only of {' and '.join(sorted(seen))}" if seen else ""
        raise ValueError(f"--embeddings {directory!r} has no vectors{chosen}{others}: nothing to export")
    runs = Runs(shards, Model(wanted or next(iter(seen)), stored_rows.dimension(shards[first.file], first.offset)))
    if args.prune:
        _prune(difference, [flag_types.pattern(text) for text in args.prune], args.screen)
    return runs


def _prune(difference: Difference, patterns: Sequence[str], screen: TextIO) -> None:
    """Removes the rows of images that the patterns match and that no longer exist. Raises ValueError."""
    unseen = Unseen()

    def listed() -> Iterator[bytes]:
        for image in ListedImages(patterns, flag="--prune"):
            if image.is_seen:
                yield image.key
            else:
                unseen.add(image.key)

    maybe_no_file, maybe_unseen = difference.prune(
        listed(), Covered(patterns), lambda key: unseen.hides(key) is not None
    )
    if maybe_unseen:
        screen.write(
            f"{maybe_unseen:,} rows are not pruned: their images may be where nothing could be listed: {unseen}\n"
        )
    if maybe_no_file:
        screen.write(
            f"{maybe_no_file:,} rows are not pruned: their records do not say that the image was a file: it was in a "
            "shard, or the record is of an earlier version (docs/export.md)\n"
        )
