"""A run over a few images, and the server that searches them."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import vector_shards
from pipeline.search import query
from pipeline.search.index import Index
from pipeline.search.serve import Server
from tests.running import run_pipeline


@pytest.fixture(scope="module")
def server(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves the page for a run over `photos`, a fixture of the module."""
    output = tmp_path_factory.mktemp("out")
    assert run_pipeline(output, "--input", photos).code == 0
    shards = vector_shards.paths(str(output))
    index = Index(shards)
    with Server(0, index, query.embedder(shards, index.digest)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
