"""Running the command as a user does, in a process of its own, and reading what it wrote."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from tfx_bsl.coders import example_coder

from transforms.encoding import tfrecord

ROOT = Path(__file__).parents[1]


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


def run_pipeline(output: Path, *flags: object, env: dict[str, str] | None = None, timeout: float = 240) -> Run:
    """Runs the command from this project's root, and waits for its end."""
    done = subprocess.run(
        command("--output", output, *flags), cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout
    )
    return Run(done.returncode, done.stdout, done.stderr, output)


def read_rows(output: Path) -> list[dict]:
    """Returns all records below an output directory, without TensorFlow."""
    rows = []
    for path in sorted(output.glob("embeddings/*/part-*-of-*.tfrecord")):
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
    return value if name.startswith("label/") else value[0]
