"""The contract of contenders: their arguments and their output. It needs only numpy, so it runs in any environment.

The arguments are a directory of JPEGs or the URI of a bucket, a SavedModel, an output directory, the image size, the
batch size, and the dimension of a vector. A contender writes two things into the output directory: the vectors, in a
format that `benchmarks/output_vectors.py` reads, and `batches.jsonl`, which has the begin, the end and the number of
images of each call of the model.
"""

import argparse
import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

BATCHES = "batches.jsonl"


def arguments(**flags: object) -> argparse.Namespace:
    """Returns the parsed arguments: photographs, model, output, image_size (height, width), batch_size, dimension.

    Args:
      **flags: further flags with their defaults; a flag has its default's type.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=lambda value: value if "://" in value else Path(value))
    parser.add_argument("model")
    parser.add_argument("output", type=Path)
    parser.add_argument("--image_size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--dimension", type=int, required=True)
    for name, default in flags.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


@contextlib.contextmanager
def batch(output: str | os.PathLike[str], images: int) -> Iterator[None]:
    """Records the call of the model in the block; several threads and processes may do so at once."""
    began = time.time()
    yield
    record(output, began, time.time(), images)


def record(output: str | os.PathLike[str], began: float, ended: float, images: int) -> None:
    """Appends a batch; a line is so short that concurrent writers do not break it up."""
    with Path(output, BATCHES).open("a") as file:
        file.write(json.dumps([began, ended, images]) + "\n")


def save(output: Path, names: list[str], vectors: list[np.ndarray]) -> None:
    """Writes a numpy archive of file names and the vectors of batches, each float32 (n, dimension)."""
    np.savez(output / "vectors.npz", names=np.array(names), vectors=np.concatenate(vectors))
