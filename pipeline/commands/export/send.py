"""The command that sends the vectors of runs to a vector search, those that it does not have yet.

Flags → files of the runs → difference to the target → blocks of rows → index → recall. Nothing is remembered outside
the target: each start compares the runs with what the target has. So a killed export goes on where it was.
"""

import argparse
import contextlib
import itertools
import os
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import numpy as np

from pipeline.commands import frame
from pipeline.flags import flag_types
from pipeline.flags.argument_parser import Parser
from transforms.elements.one_line import one_line, printable
from transforms.storage import locations

if TYPE_CHECKING:
    from pipeline.commands.export.difference import Difference
    from pipeline.commands.export.progress_line import ProgressLine
    from pipeline.commands.export.target import LeftOut, Model, Row, Target
    from transforms.encoding.examples import Identity

_EXAMPLES = """\
  # all runs of an output into a table of PostgreSQL, with its index; PGHOST, PGUSER, PGPASSWORD, … say where
  python -m pipeline export --embeddings vectors --to pgvector --table image_embeddings

  # half the size, for vectors of up to 4,000 dimensions
  python -m pipeline export --embeddings vectors --to pgvector --dsn 'host=db dbname=images' --vector_type halfvec

  # a Lance dataset, and files for Vertex AI Vector Search
  python -m pipeline export --embeddings gs://bucket/vectors --to lance --destination vectors.lance
  python -m pipeline export --embeddings gs://bucket/vectors --to vertex --destination gs://bucket/search

exit code: 0 the target is up to date; 1 the target failed, and the same command goes on; 2 a flag or an input is wrong;
130 interrupted, and the same command goes on.
"""
TARGETS = ("pgvector", "lance", "vertex")
VECTOR_TYPES = ("vector", "halfvec")
_TABLE = "image_embeddings"
_QUERIES = 100

# Rows that are in memory at once, and are written together; fewer if their vectors are long.
_BLOCK_ROWS = 2_500
_BLOCK_BYTES = 16 * 2**20
_KEYS_PER_DELETE = 10_000

# Rows that the summary names of those that a target cannot take.
_NAMED = 10

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return frame.run(_parser(), argv, _work)


def _parser() -> Parser:
    parser = frame.parser("export", "Sends the vectors of runs to a vector search: only what is new.", _EXAMPLES)
    parser.add_argument(
        "--embeddings",
        metavar="DIR",
        required=True,
        help="the output of runs, local or gs://, or a directory in it. Of an image in several runs the latest counts",
    )
    parser.add_argument("--to", choices=TARGETS, required=True, help="the vector search")
    parser.add_argument(
        "--dsn",
        help="pgvector: connection string or URI, as in 'host=db dbname=images' (default: the variables PGHOST, "
        "PGPORT, PGUSER, PGDATABASE, …). Other users of the machine see it, so give the password in PGPASSWORD or "
        "~/.pgpass",
    )
    parser.add_argument(
        "--table",
        metavar="[SCHEMA.]NAME",
        help=f"pgvector: the table, which is made if there is none (default: {_TABLE})",
    )
    parser.add_argument(
        "--vector_type",
        choices=VECTOR_TYPES,
        help="pgvector: vector has 4 bytes a component and up to 2,000 components, halfvec 2 bytes and up to 4,000 "
        "(default: vector)",
    )
    parser.add_argument(
        "--destination",
        metavar="DIR",
        help="lance and vertex: the dataset, or the directory for the files, local or gs://; made if there is none",
    )
    parser.add_argument(
        "--metric",
        choices=("cosine", "l2", "ip"),
        default="cosine",
        help="distance that the index is for: cosine, Euclidean (l2) or inner product (ip) (default: %(default)s)",
    )
    parser.add_argument(
        "--model_digest",
        metavar="DIGEST",
        help="take only vectors of this model, 64 characters (default: refuse --embeddings with several models)",
    )
    parser.add_argument(
        "--prune",
        action="append",
        metavar="PATTERN",
        help="delete the rows of images that PATTERN takes in and that no longer exist: a glob or a directory, as "
        "--input of the runs; repeatable (default: runs forget no image)",
    )
    parser.add_argument(
        "--max_deleted",
        metavar="PART",
        type=flag_types.number,
        default=0.5,
        help="refuse to delete more than this part of the target's rows, from 0 to 1: --embeddings with one run of "
        "several would delete the others' rows (default: %(default)s)",
    )
    parser.add_argument("--dry_run", action="store_true", help="say what would be sent and deleted, and change nothing")
    return parser


def _work(args: argparse.Namespace) -> tuple[str, int]:
    from pipeline.commands.export.difference import Difference

    _check(args)
    began = time.monotonic()
    with contextlib.closing(Difference()) as difference:
        shards, model = _read_runs(args, difference)
        with contextlib.closing(_target(args, model)) as target:
            try:
                return _update(args, target, difference, shards, model, began)
            except target.ERRORS as error:
                traceback.print_exc()
                return f"export: {_name(args)}: {one_line(error)}; the same command goes on", frame.FAILED


def _check(args: argparse.Namespace) -> None:
    """Raises ValueError for flags that do not go together."""
    of_table = [name for name in ("dsn", "table", "vector_type") if getattr(args, name) is not None]
    if args.to == "pgvector" and args.destination is not None:
        raise ValueError("--destination is for --to lance and vertex: expected --table")
    if args.to != "pgvector" and of_table:
        raise ValueError(f"--{of_table[0]} is for --to pgvector: expected --destination")
    if not 0 <= args.max_deleted <= 1:
        raise ValueError("--max_deleted: expected a number from 0 to 1, as in 0.5")
    if args.table is not None and not all(0 < len(name.encode()) <= 63 for name in args.table.split(".", 1)):
        raise ValueError(f"--table {args.table!r}: expected NAME or SCHEMA.NAME, of 1 to 63 bytes each")
    if args.to != "pgvector":
        if not args.destination:
            raise ValueError(f"--to {args.to}: expected --destination DIR")
        _check_directory(flag_types.absolute(args.destination))


def _check_directory(destination: str) -> None:
    """Raises ValueError if a file is in the place of a local directory or of one above it."""
    if not locations.is_local(destination):
        return
    path = Path(destination)
    there = next(each for each in (path, *path.parents) if os.path.lexists(each))
    if not there.is_dir():
        raise ValueError(f"--destination {destination!r}: {there} is no directory: expected a directory, or a new name")


def _read_runs(args: argparse.Namespace, difference: "Difference") -> tuple[list[str], "Model"]:
    """Adds the rows of the runs to the difference, and returns their files and their model."""
    from pipeline.commands.export import stored_rows
    from pipeline.commands.export.progress_line import ProgressLine
    from pipeline.known import vector_shards

    directory = flag_types.absolute(args.embeddings)
    shards = vector_shards.paths(directory)
    progress = ProgressLine(args.screen, "reading", None)
    digests = _Digests(directory, args.model_digest)
    read = _counted(progress)
    for number, path in enumerate(shards):
        difference.add_current(number, digests.of_one_model(read(stored_rows.identities(path))))
    progress.clear()
    model = digests.model(shards, difference)
    if args.prune:
        _prune(difference, [flag_types.pattern(text) for text in args.prune], args.screen)
    return shards, model


def _update(
    args: argparse.Namespace,
    target: "Target",
    difference: "Difference",
    shards: Sequence[str],
    model: "Model",
    began: float,
) -> tuple[str, int]:
    """Brings the target up to date, and returns what there is to say about that, and the exit code."""
    from pipeline.commands.export import outcome
    from pipeline.commands.export.progress_line import ProgressLine

    progress = ProgressLine(args.screen, "", None)
    progress.say(f"comparing with {_name(args)}")
    difference.add_stored(target.stored(), target.IS_LOG)
    progress.clear()
    counts = difference.counts()
    if args.dry_run:
        return outcome.plan(counts, _name(args)), frame.DONE
    if counts.gone > args.max_deleted * counts.stored:
        raise ValueError(
            f"{counts.gone:,} of the {counts.stored:,} rows of {_name(args)} would be deleted, more than --max_deleted "
            f"{args.max_deleted:g} allows: expected --embeddings with all runs; --max_deleted 1 goes on"
        )
    target.prepare(bool(counts.to_send), bool(counts.to_delete))
    named = _send(target, difference, shards, model, args.screen)
    taken = difference.counts()
    index, has_index = target.finish(bool(taken.to_send or taken.to_delete), progress.say)
    measured = None
    if has_index and taken.current > 1:
        progress.say(f"measuring recall with {min(_QUERIES, taken.current)} queries")
        measured = _recall(target, difference, shards, model, args.metric)
    progress.clear()
    seconds = time.monotonic() - began
    summary = outcome.summary(counts.current, taken, _name(args), model, index, measured, named, seconds)
    return summary, frame.DONE if taken.current else frame.FAILED


def _target(args: argparse.Namespace, model: "Model") -> "Target":
    if args.to == "pgvector":
        from pipeline.commands.export.pgvector_table import PgvectorTable

        return PgvectorTable(args.dsn, args.table or _TABLE, args.vector_type or "vector", args.metric, model)
    destination = flag_types.absolute(args.destination)
    if args.to == "lance":
        from pipeline.commands.export.lance_dataset import LanceDataset

        return LanceDataset(destination, args.metric, model)
    from pipeline.commands.export.vertex_files import VertexFiles

    return VertexFiles(destination, args.metric, model)


def _name(args: argparse.Namespace) -> str:
    return printable(f"the table {args.table or _TABLE}" if args.to == "pgvector" else args.destination)


class _Digests:
    """The model digests of records, of which there may be one only."""

    def __init__(self, directory: str, wanted: str | None):
        self._directory = directory
        self._wanted = wanted
        self._seen: set[str] = set()

    def of_one_model(self, records: Iterable["tuple[int, Identity]"]) -> Iterator["tuple[int, Identity]"]:
        """Yields the records of the wanted model. Raises ValueError if none is wanted and there are several."""
        for place, identity in records:
            self._seen.add(identity.model_digest)
            if self._wanted is None and len(self._seen) > 1:
                raise ValueError(
                    f"--embeddings {self._directory!r} has vectors of several models, with the digests "
                    f"{' and '.join(sorted(self._seen))}: choose one by --model_digest"
                )
            if self._wanted in (None, identity.model_digest):
                yield place, identity

    def model(self, shards: Sequence[str], difference: "Difference") -> "Model":
        """Returns the model of the records. Raises ValueError if there are no records."""
        from pipeline.commands.export import stored_rows
        from pipeline.commands.export.target import Model

        digest = self._wanted or next(iter(self._seen), "")
        first = next(difference.current(), None)
        if first is None:
            of_model = f" of --model_digest {self._wanted}" if self._wanted else ""
            others = f", only of {' and '.join(sorted(self._seen))}" if self._seen else ""
            raise ValueError(f"--embeddings {self._directory!r} has no vectors{of_model}{others}: nothing to export")
        return Model(digest, stored_rows.dimension(shards[first.file], first.offset))


def _prune(difference: "Difference", patterns: Sequence[str], screen: TextIO) -> None:
    """Removes the rows of images that the patterns take in, and that are not there. Raises ValueError."""
    from pipeline.commands.verify import input_images
    from pipeline.known.prunable import Covered, Unseen

    unseen = Unseen()

    def listed() -> Iterator[bytes]:
        for image in input_images.images(patterns, "images", None, flag="--prune"):
            if image.is_seen:
                yield image.key
            else:
                unseen.add(image.key)

    kept = difference.prune(listed(), Covered(patterns), lambda key: unseen.hides(key) is not None)
    if kept.hidden:
        screen.write(
            f"{kept.hidden:,} rows are not pruned: their images may be where nothing could be listed: {unseen}\n"
        )
    if kept.untold:
        screen.write(
            f"{kept.untold:,} rows are not pruned: their records do not say that the image was a file: it was in a "
            "shard, or the record is of an earlier version (docs/export.md)\n"
        )


def _send(
    target: "Target", difference: "Difference", shards: Sequence[str], model: "Model", screen: TextIO
) -> list["LeftOut"]:
    """Deletes what is gone, sends what is new, block by block, and returns the first rows that the target cannot take.

    The difference forgets all of those.
    """
    from pipeline.commands.export import stored_rows
    from pipeline.commands.export.progress_line import ProgressLine

    for row_keys in _batches(difference.to_delete(), _KEYS_PER_DELETE):
        target.delete(row_keys)
    counts = difference.counts()
    progress = ProgressLine(screen, "sending", counts.to_send)
    sent = 0
    named: list[LeftOut] = []
    for rows in _batches(stored_rows.rows(shards, difference.to_send(), model), _block_rows(model)):
        left_out = _without_numbers(rows)
        unfit = {row.key for row in left_out}
        if fit := [row for row in rows if row.key not in unfit]:
            if counts.doubled and (doubled := difference.doubled(row.key for row in fit)):
                target.delete(doubled)
            left_out += target.upsert(fit)
        difference.leave_out([row.key for row in left_out])
        named += left_out[: _NAMED - len(named)]
        sent += len(rows)
        progress.show(sent)
    progress.clear()
    return named


def _without_numbers(rows: Iterable["Row"]) -> list["LeftOut"]:
    """Returns the rows that no target can take, because no distance to them is a number."""
    from pipeline.commands.export.target import LeftOut

    return [LeftOut(row.key, "its vector is not finite") for row in rows if not np.isfinite(row.vector).all()]


def _recall(
    target: "Target", difference: "Difference", shards: Sequence[str], model: "Model", metric: str
) -> tuple[int, float]:
    """Returns the number of queries, and the recall@10 of the target's index for them."""
    from pipeline.commands.export import stored_rows
    from pipeline.commands.export.index_recall import NEIGHBOURS, recall

    queries = list(stored_rows.rows(shards, difference.sample(_QUERIES), model))
    vectors = np.stack([row.vector for row in queries])
    blocks = (
        ([row.key for row in rows], np.stack([row.vector for row in rows]))
        for rows in _batches(stored_rows.rows(shards, difference.current(), model), _block_rows(model))
    )
    answers = target.search(vectors, NEIGHBOURS + 1)
    return len(queries), recall(([row.key for row in queries], vectors), answers, blocks, metric)


def _block_rows(model: "Model") -> int:
    return max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // (4 * model.dimension)))


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _counted(progress: "ProgressLine") -> Any:
    """Returns a function that passes items through, and shows how many there were so far in all its calls."""
    done = itertools.count(1)

    def passed(items: Iterable[T]) -> Iterator[T]:
        for item in items:
            if (number := next(done)) % 1_000 == 0:
                progress.show(number)
            yield item

    return passed
