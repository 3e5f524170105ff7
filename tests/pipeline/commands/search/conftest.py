"""Servers of the page, one of them for a run over a few images."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.commands.search import query
from pipeline.commands.search.index import Index
from pipeline.commands.search.serve import Server
from pipeline.known import vector_shards
from tests.helpers.running import run_pipeline

Start = Callable[[Path, query.Embedder], Server]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Returns a function that serves the page for the runs in an output, until the module ends."""
    with contextlib.ExitStack() as stack:

        def serve(output: Path, embed: query.Embedder) -> Server:
            server = stack.enter_context(Server(0, Index(vector_shards.paths(str(output))), embed))
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return server

        yield serve


@pytest.fixture(scope="module")
def server(photos: Path, tmp_path_factory: pytest.TempPathFactory, start: Start) -> Server:
    """Serves the page for a run over `photos`, a fixture of the module."""
    output = tmp_path_factory.mktemp("out")
    assert run_pipeline(output, "--input", photos).code == 0
    shards = vector_shards.paths(str(output))
    return start(output, query.embedder(shards, vector_shards.digest(shards)))
