"""The command that finds images by an image."""

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.commands import frame
from pipeline.flags import command_lines, flag_types, storage_flags
from pipeline.flags.argument_parser import Parser
from transforms.elements import keys
from transforms.elements.one_line import one_line
from transforms.storage import locations

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pipeline.commands.search.nearest import Neighbour

_EXAMPLES = """\
  # the ten images of all runs below a directory that look most like an image
  python -m pipeline search --embeddings vectors --image query.jpg

  # the nearest of an image of the run itself, with pictures, or for a program
  python -m pipeline search --embeddings vectors --key photos/1.jpg --format html > neighbours.html
  python -m pipeline search --embeddings gs://bucket/vectors --key gs://bucket/photos/1.jpg --top 100 --format json

  # a page to search with, for this machine only; and TensorBoard's Embedding Projector
  python -m pipeline search --embeddings vectors --serve
  python -m pipeline search --embeddings vectors --projector projector

exit code: 0 done; 2 a flag is wrong, or the vectors are of another model.
"""
_PORT_LIMIT = 65535


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return frame.run(_parser(), argv, _work, only_shows=True)


def _parser() -> Parser:
    parser = frame.parser("search", "Finds the images whose vectors are nearest to that of an image.", _EXAMPLES)
    parser.add_argument(
        "--embeddings",
        metavar="DIR",
        help="the directory that runs wrote to, or that of one run below embeddings/, also in a bucket. Of an image "
        "that several runs have, the last vector counts",
    )
    query = parser.add_mutually_exclusive_group()
    query.add_argument("--image", metavar="FILE", help="search for this image, local or in a bucket")
    query.add_argument(
        "--key",
        metavar="KEY",
        help="search for an image of the runs, by its key as the run listed it, or as a result of this command has it",
    )
    flag_types.add_switch(
        query, "--serve", "serve a page on 127.0.0.1: drop an image, see its neighbours, click on; until Ctrl-C"
    )
    query.add_argument(
        "--projector",
        metavar="DIR",
        help="write vectors, keys and pictures of at most 5,000 images for TensorBoard's Embedding Projector, which "
        "`tensorboard --logdir DIR` shows; DIR is local, and replaced if this command wrote it",
    )
    parser.add_argument(
        "--top", type=flag_types.positive, default=10, metavar="N", help="number of neighbours (default: %(default)s)"
    )
    parser.add_argument(
        "--format", choices=("table", "json", "html"), default="table", help="of the result (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="port of --serve (default: one that is free, which is printed)"
    )
    parser.add_argument(
        "--model",
        metavar="HANDLE",
        help="where the model of the vectors is now, as --model of a run takes it (default: where the run "
        "had it). A model with another digest is refused",
    )
    storage_flags.add(parser)
    return parser


def _work(args: argparse.Namespace) -> str:
    if not args.embeddings:
        raise ValueError("--embeddings: expected the directory that runs wrote to")
    if not (args.image or args.key or args.serve or args.projector):
        raise ValueError("expected a query: give --image FILE, --key KEY, --serve or --projector DIR")
    if not 0 <= args.port <= _PORT_LIMIT:
        raise ValueError(f"--port {args.port}: expected a number from 0 to {_PORT_LIMIT}")
    from pipeline.known import vector_shards

    shards = vector_shards.paths(flag_types.absolute(args.embeddings))
    if args.serve:
        from pipeline.commands.search import serve

        return serve.serve(shards, args.port, args.model, storage_flags.storage(args))
    if args.projector:
        return _project(shards, args)
    return _search(shards, args)


def _project(shards: Sequence[str], args: argparse.Namespace) -> str:
    from pipeline.commands.search import projector
    from pipeline.commands.search.index import Index

    if not locations.is_local(args.projector):
        raise ValueError(f"--projector {args.projector!r}: expected a local directory")
    index = Index(shards)
    written = projector.write(index, flag_types.absolute(args.projector), storage_flags.storage(args))
    return f"{written:,} of {len(index):,} images: {command_lines.join(['tensorboard', '--logdir', args.projector])}"


def _search(shards: Sequence[str], args: argparse.Namespace) -> str:
    from pipeline.commands.search import query
    from pipeline.commands.search.nearest import cosines, nearest
    from pipeline.known import vector_shards

    digest = vector_shards.digest(shards)
    if args.image:
        image, vector = keys.of_uri(args.image), _vector(shards, digest, args)
    else:
        image, vector = query.stored(shards, digest, args.key)

    def blocks() -> Iterator[tuple[Sequence[bytes], "npt.NDArray[np.float32]"]]:
        for block in vector_shards.blocks(shards, digest):
            yield block.keys, cosines(block.matrix, vector)

    neighbours = nearest(blocks, args.top + 1)
    if args.key:
        neighbours = [neighbour for neighbour in neighbours if neighbour.key != image]
    neighbours = neighbours[: args.top]
    if args.format == "html":
        return _html(args, image, neighbours, vector_shards.files_among(shards, digest, {n.key for n in neighbours}))
    return _FORMATS[args.format](image, neighbours)


def _vector(shards: Sequence[str], digest: str, args: argparse.Namespace) -> "npt.NDArray[np.float32]":
    """Returns the vector of --image, which may be in the runs or not."""
    from pipeline.commands.search import query

    encoded = query.read(args.image, storage_flags.storage(args))
    embed = query.embedder(shards, digest, args.model, storage_flags.storage(args))
    try:
        return embed(encoded)
    except ValueError as error:
        raise ValueError(f"--image {args.image!r}: {one_line(error)}") from error


def _table(image: bytes, neighbours: Sequence["Neighbour"]) -> str:
    rows = [f"{neighbour.cosine:.4f}  {keys.name(neighbour.key)}" for neighbour in neighbours]
    return "\n".join(["cosine  image", *rows])


def _json(image: bytes, neighbours: Sequence["Neighbour"]) -> str:
    facts = [{"key": keys.uri(neighbour.key), "cosine": neighbour.cosine} for neighbour in neighbours]
    return json.dumps({"query": keys.uri(image), "neighbours": facts}, indent=2)


def _html(args: argparse.Namespace, image: bytes, neighbours: Sequence["Neighbour"], of_files: set[bytes]) -> str:
    from pipeline.commands.search import page

    return page.result(image, neighbours, of_files, storage_flags.storage(args))


_FORMATS = {"table": _table, "json": _json}
