"""Runs to export, and what tests of all targets share."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.commands.export.send import main
from tests.helpers import outputs
from tests.helpers.running import ROOT
from transforms.elements.records import Embedding, ImageInfo, ImageRef
from transforms.models.spec import ModelSpec

DIMENSION = 16
MODEL = ModelSpec("tiny", "tf2", "/models/tiny", "", (), DIMENSION, (8, 8), "d" * 64)
OTHER = ModelSpec("other", "tf2", "/models/other", "", (), DIMENSION, (8, 8), "e" * 64)
# More than a block has, which is 2,500.
MANY = 12_000


def embedding(number: int, version: str = "1", content: object = None) -> Embedding:
    """Returns the embedding of an image whose vector and digest follow from its content, by default its number."""
    sha256 = hashlib.sha256(str(number if content is None else content).encode()).hexdigest()
    vector = np.random.default_rng(int(sha256[:8], 16)).standard_normal(DIMENSION, np.float32)
    ref = ImageRef(b"gs://bucket/it's %d.jpg" % number, version, 100 + number, "AAAAAA==")
    return Embedding(ImageInfo(ref, sha256, "jpeg", 8, 9), vector)


def write_run(output: Path, run_id: str, numbers: Iterable[int], model: ModelSpec = MODEL, **changes: object) -> None:
    """Writes a run; `changes` are arguments of `embedding`."""
    outputs.write_run(output, [embedding(i, **changes) for i in numbers], run_id=run_id, model=model)


def expected(*embeddings: Embedding) -> dict[str, tuple[str, list[float]]]:
    """Returns key → (SHA-256, vector), as the tests read it from a target."""
    return {each.info.ref.key.decode(): (each.info.sha256, each.vector.tolist()) for each in embeddings}


def export(output: Path, to: str, *flags: object) -> int:
    return main(["--embeddings", str(output), "--to", to, *map(str, flags)])


@contextmanager
def started(output: Path, to: str, *flags: object) -> Iterator[subprocess.Popen]:
    """Starts the command as a process of its own, and kills it at the end of the block."""
    command = [sys.executable, "-m", "pipeline", "export", "--embeddings", str(output), "--to", to, *map(str, flags)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    """Waits until a condition holds, while a process lives."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
