"""The command that sends the vectors of runs to a vector search, those that it does not have yet.

Flags → files of the runs → difference to the target → blocks of rows → index → recall. Nothing is remembered outside
the target: each start compares the runs with what the target has. So a killed export goes on where it was.
"""

import argparse
import contextlib
import itertools
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np

from pipeline import command, flags
from transforms.one_line import one_line

_EXAMPLES = """\
  # all runs of an output into a table of PostgreSQL, with its index; PGHOST, PGUSER, PGPASSWORD, … say where
  python -m pipeline.export --embeddings vectors --to pgvector --table image_embeddings

  # half the size, for vectors of up to 4,000 dimensions
  python -m pipeline.export --embeddings vectors --to pgvector --dsn 'host=db dbname=images' --vector_type halfvec

  # a Lance dataset, and files for Vertex AI Vector Search
  python -m pipeline.export --embeddings gs://bucket/vectors --to lance --destination vectors.lance
  python -m pipeline.export --embeddings gs://bucket/vectors --to vertex --destination gs://bucket/search

exit code: 0 the target is up to date; 1 the target failed, and the same command goes on; 2 a flag or an input is wrong;
130 interrupted, and the same command goes on.
"""
TARGETS = ("pgvector", "lance", "vertex")
VECTOR_TYPES = ("vector", "halfvec")
_QUERIES = 100

# Rows that are in memory at once, and are written together; fewer if their vectors are long.
_BLOCK_ROWS = 2_500
_BLOCK_BYTES = 16 * 2**20
_KEYS_PER_DELETE = 10_000

# The key of an image in a tar or TFRecord file, as a run records it.
_IN_A_SHARD = re.compile(r"\.(tar|tgz|tfrecords?)[^/#]*#.", re.IGNORECASE)

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return command.run(_parser(), argv, _work)


def _parser() -> command.Parser:
    parser = command.parser("export", "Sends the vectors of runs to a vector search: only what is new.", _EXAMPLES)
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
        help="pgvector: the table, which is made if there is none (default: image_embeddings)",
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
    parser.add_argument("--dry_run", action="store_true", help="say what would be sent and deleted, and change nothing")
    return parser


def _work(args: argparse.Namespace) -> tuple[str, int]:
    _check(args)
    with contextlib.ExitStack() as stack:
        return _export(args, stack)


def _check(args: argparse.Namespace) -> None:
    """Raises ValueError for flags that do not go together."""
    of_table = [name for name in ("dsn", "table", "vector_type") if getattr(args, name) is not None]
    if args.to == "pgvector" and args.destination is not None:
        raise ValueError("--destination is for --to lance and vertex: expected --table")
    if args.to != "pgvector" and of_table:
        raise ValueError(f"--{of_table[0]} is for --to pgvector: expected --destination")
    if args.to != "pgvector" and not args.destination:
        raise ValueError(f"--to {args.to}: expected --destination DIR")


def _export(args: argparse.Namespace, stack: contextlib.ExitStack) -> tuple[str, int]:
    from pipeline.export import runs
    from pipeline.export.difference import Difference
    from pipeline.export.progress_line import ProgressLine

    began = time.monotonic()
    directory = flags.absolute(args.embeddings)
    shards = runs.paths(directory)
    scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="image-embeddings-export-"))
    difference = stack.enter_context(contextlib.closing(Difference(str(Path(scratch, "difference.sqlite")))))
    progress = ProgressLine(args.screen, "reading", None)
    stack.callback(progress.clear)
    digests = _Digests(directory, args.model_digest)
    read = _counted(progress)
    for number, path in enumerate(shards):
        difference.add_current(number, digests.of_one_model(read(runs.identities(path))))
    model = digests.model(shards, difference)
    if args.prune:
        _prune(difference, [flags.pattern(text) for text in args.prune])
    target = stack.enter_context(contextlib.closing(_target(args, model)))
    errors = getattr(target, "ERRORS", ())
    try:
        progress.say(f"comparing with {_name(args)}")
        difference.add_stored(target.stored())
        counts = difference.counts()
        if args.dry_run:
            return _plan(counts, _name(args)), command.DONE
        target.prepare()
        _send(target, difference, shards, model, args.screen)
        progress.say("building the index")
        index, has_index = target.finish(bool(counts.to_send or counts.gone))
        measured = None
        if has_index and counts.current > 1:
            progress.say(f"measuring recall with {min(_QUERIES, counts.current)} queries")
            measured = _recall(target, difference, shards, model, args.metric)
    except errors as error:
        return f"export: {_name(args)}: {one_line(error)}; the same command goes on", command.FAILED
    return _summary(counts, _name(args), model, index, measured, time.monotonic() - began), command.DONE


def _target(args: argparse.Namespace, model: Any) -> Any:
    if args.to == "pgvector":
        from pipeline.export.pgvector_table import PgvectorTable

        return PgvectorTable(
            args.dsn, args.table or "image_embeddings", args.vector_type or "vector", args.metric, model
        )
    destination = flags.absolute(args.destination)
    if args.to == "lance":
        from pipeline.export.lance_dataset import LanceDataset

        return LanceDataset(destination, args.metric, model)
    from pipeline.export.vertex_files import VertexFiles

    return VertexFiles(destination, args.metric, model)


def _name(args: argparse.Namespace) -> str:
    return f"the table {args.table or 'image_embeddings'}" if args.to == "pgvector" else args.destination


class _Digests:
    """The model digests of records, of which there may be one only."""

    def __init__(self, directory: str, wanted: str | None):
        self._directory = directory
        self._wanted = wanted
        self._seen: set[str] = set()

    def of_one_model(self, records: Iterable[Any]) -> Iterator[Any]:
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

    def model(self, shards: Sequence[str], difference: Any) -> Any:
        """Returns the model of the records. Raises ValueError if there are no records."""
        from pipeline.export import runs
        from pipeline.export.target import Model

        digest = self._wanted or next(iter(self._seen), "")
        first = next(difference.current(), None)
        if first is None:
            of_model = f" of --model_digest {self._wanted}" if self._wanted else ""
            others = f", only of {' and '.join(sorted(self._seen))}" if self._seen else ""
            raise ValueError(f"--embeddings {self._directory!r} has no vectors{of_model}{others}: nothing to export")
        return Model(digest, runs.dimension(shards[first.file], first.offset))


def _prune(difference: Any, patterns: Sequence[str]) -> None:
    """Removes the rows of images that the patterns take in, and that are not there. Raises ValueError."""
    from pipeline.verify import input_images
    from transforms.storage import files

    matchers = [files.matcher(pattern) for pattern in patterns]
    listed = (image.key for image in input_images.images(patterns, "images", None))
    # An image in a shard is not listed by its own name.
    difference.prune(lambda key: not _IN_A_SHARD.search(key) and any(match(key) for match in matchers), listed)


def _send(target: Any, difference: Any, shards: Sequence[str], model: Any, screen: TextIO) -> None:
    """Deletes what is gone, and sends what is new, block by block."""
    from pipeline.export import runs
    from pipeline.export.progress_line import ProgressLine

    for row_keys in _batches(difference.to_delete(), _KEYS_PER_DELETE):
        target.delete(row_keys)
    progress = ProgressLine(screen, "sending", difference.counts().to_send)
    sent = 0
    for rows in _batches(runs.rows(shards, difference.to_send(), model), _block_rows(model)):
        target.upsert(rows)
        sent += len(rows)
        progress.show(sent)
    progress.clear()


def _recall(target: Any, difference: Any, shards: Sequence[str], model: Any, metric: str) -> tuple[int, float]:
    """Returns the number of queries, and the recall@10 of the target's index for them."""
    from pipeline.export import runs
    from pipeline.export.index_recall import NEIGHBOURS, recall

    queries = list(runs.rows(shards, difference.sample(_QUERIES), model))
    vectors = np.stack([row.vector for row in queries])
    blocks = (
        ([row.key for row in rows], np.stack([row.vector for row in rows]))
        for rows in _batches(runs.rows(shards, difference.current(), model), _block_rows(model))
    )
    answers = target.search(vectors, NEIGHBOURS + 1)
    return len(queries), recall(([row.key for row in queries], vectors), answers, blocks, metric)


def _block_rows(model: Any) -> int:
    return max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // (4 * model.dimension)))


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _counted(progress: Any) -> Any:
    """Returns a function that passes items through, and shows how many there were so far in all its calls."""
    done = itertools.count(1)

    def passed(items: Iterable[T]) -> Iterator[T]:
        for item in items:
            if (number := next(done)) % 1_000 == 0:
                progress.show(number)
            yield item

    return passed


def _plan(counts: Any, name: str) -> str:
    return (
        f"{counts.current:,} vectors in the runs; to {name} would be sent {counts.new:,} new and {counts.replaced:,} "
        f"replaced, and {counts.gone:,} would be deleted; nothing was changed"
    )


def _summary(counts: Any, name: str, model: Any, index: str, measured: tuple[int, float] | None, seconds: float) -> str:
    changes = (
        f"{counts.new:,} new, {counts.replaced:,} replaced, {counts.gone:,} deleted"
        if counts.to_send or counts.gone
        else "nothing to send"
    )
    lines = [
        f"{counts.current:,} vectors in the runs → {name}: {changes}, {seconds:.1f} s",
        "",
        f"  model     digest {model.digest}, {model.dimension} dimensions",
        f"  index     {index}",
    ]
    if measured:
        lines.append(f"  recall    {measured[1]:.3f} at 10, of {measured[0]} queries against exact search in float32")
    return "\n".join(lines)
