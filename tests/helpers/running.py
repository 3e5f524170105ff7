"""Running the command as a user does, and reading what it wrote."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tfx_bsl.coders import example_coder

from pipeline import launch
from tests.helpers import fork_server
from transforms.encoding import tfrecord

ROOT = Path(__file__).parents[2]
# Flags for a run in this process alone.
THREAD = ("--direct_num_workers=1", "--direct_running_mode=in_memory")


class Left(BaseException):
    """In the place of the end of this process; its argument is the exit code."""


@dataclasses.dataclass
class Run:
    """What a run of the command left behind."""

    code: int
    stdout: str
    stderr: str
    output: Path

    @property
    def report(self) -> dict:
        (path,) = (self.output / "runs").glob("*.json")
        return json.loads(path.read_text())

    @property
    def counts(self) -> dict:
        return {name: count for name, count in self.report["counts"].items() if count}

    @property
    def rows(self) -> list[dict]:
        return read_rows(self.output)

    @property
    def failures(self) -> list[dict]:
        paths = self.output.glob("failures/*/part-*-of-*.jsonl")
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]

    def vectors(self) -> dict[bytes, np.ndarray]:
        return {row["image/key"]: row["embedding"] for row in self.rows}


def command(*flags: object) -> list[str]:
    """Returns the command, to be run from this project's root."""
    return [sys.executable, "run_pipeline.py", *map(str, flags)]


def run_pipeline(
    output: Path, *flags: object, env: Mapping[str, str] | None = None, timeout: float = 240, fresh: bool = False
) -> Run:
    """Runs the command from this project's root, and waits for its end.

    Args:
      output, flags: of the command.
      env: its whole environment; this process's by default.
      timeout: in seconds.
      fresh: whether by a Python process that starts, as a user does; else by one that `fork_server` forks.
    """
    env = os.environ if env is None else env
    if fresh:
        argv = command("--output", output, *flags)
        done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout)
    else:
        done = fork_server.run(["--output", str(output), *map(str, flags)], env, timeout)
    return Run(done.returncode, done.stdout, done.stderr, output)


def run_refused(output: Path, *flags: object) -> Run:
    """Runs the command in this process: for flags that are refused before any work."""
    with (
        tempfile.TemporaryFile("w+") as stdout,
        tempfile.TemporaryFile("w+") as stderr,
        contextlib.chdir(ROOT),
        contextlib.redirect_stdout(stdout),
        _descriptor(2, stderr),
        contextlib.redirect_stderr(stderr),
    ):
        code = launch.main(["--output", str(output), *map(str, flags)])
        for stream in (stdout, stderr):
            stream.flush()
            stream.seek(0)
        return Run(code, stdout.read(), stderr.read(), output)


@contextlib.contextmanager
def _descriptor(number: int, file: IO[str]) -> Iterator[None]:
    """Lets a file descriptor of this process be that of a file, until the block ends."""
    original = os.dup(number)
    os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        os.dup2(original, number)
        os.close(original)


def read_rows(output: Path, run_id: str = "*", suffix: str = "*") -> list[dict]:
    """Returns all records below an output directory, or those of one run or one format, without TensorFlow.

    Those of Parquet files have the names that features have in TFRecords.
    """
    rows = []
    paths = sorted(output.glob(f"embeddings/{run_id}/part-*-of-*.{suffix}"))
    for path in (path for path in paths if path.suffix == ".parquet"):
        for row in pq.read_table(path).to_pylist():
            model = {"model/name": row.pop("model").encode(), "model/digest": row.pop("model_digest").encode()}
            vector = np.array(row.pop("embedding"), np.float32)
            facts = {
                f"image/{name}": value.encode() if isinstance(value, str) else value for name, value in row.items()
            }
            rows.append(facts | model | {"embedding": vector})
    for path in (path for path in paths if path.suffix == ".tfrecord"):
        with path.open("rb") as file:
            batch = example_coder.ExamplesToRecordBatchDecoder().DecodeBatch(list(tfrecord.read(file, 2**30)))
        rows += [
            {name: _value(name, value) for name, value in row.items()}
            for row in pa.Table.from_batches([batch]).to_pylist()
        ]
    return rows


def _value(name: str, value: list) -> object:
    if name == "embedding":
        return np.array(value, np.float32)
    if name == "embedding/float16":
        return np.frombuffer(value[0], "<f2").astype(np.float32)
    return value if name.startswith("label/") else value[0]
