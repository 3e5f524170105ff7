"""The command that sends those vectors of runs to a vector search that it does not have yet.

Flags → files of the runs → difference to the target → blocks of rows → index → recall. Nothing is remembered outside
the target: each start compares the runs with what the target has. So a killed export continues where it was.
"""

import argparse
import contextlib
import os
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands import frame
from pipeline.flags import flag_types
from pipeline.flags.argument_parser import Parser
from transforms.elements.one_line import one_line, printable
from transforms.storage import locations

if TYPE_CHECKING:
    from pipeline.commands.export.target import Model, Target

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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return frame.run(_parser(), argv, _work)


def _parser() -> Parser:
    parser = frame.parser("export", "Sends the vectors of runs to a vector search: only what is new.", _EXAMPLES)
    parser.add_argument(
        "--embeddings",
        metavar="DIR",
        required=True,
        help="the output of runs, also in a bucket, or a directory in it. Of an image in several, the latest counts",
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
        help="lance and vertex: the dataset, or the directory for the files, also in a bucket; made if there is none",
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
    from pipeline.commands.export import current_rows, outcome
    from pipeline.commands.export.difference import Difference
    from pipeline.commands.export.update import Update

    _check(args)
    began = time.monotonic()
    with contextlib.closing(Difference()) as difference:
        runs = current_rows.read(args, difference)
        name = printable(f"the table {args.table or _TABLE}" if args.to == "pgvector" else args.destination)
        with contextlib.closing(_target(args, runs.model)) as target:
            update = Update(target, name, args.metric, difference, runs, args.screen)
            try:
                update.compare()
                if args.dry_run:
                    return outcome.plan(difference.counts(), name), frame.DONE
                update.check(args.max_deleted)
                summary, has_rows = update.run(began)
                return summary, frame.DONE if has_rows else frame.FAILED
            except target.ERRORS as error:
                traceback.print_exc()
                return f"export: {name}: {one_line(error)}; the same command goes on", frame.FAILED


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
