"""What a contender is given, and what it leaves behind. It needs numpy and nothing else: it runs in any environment.

Given are a directory of JPEGs, a SavedModel, the image size, the batch size, the dimension of a vector, and an output
directory. Left behind are, in that directory, the vectors (`benchmarks/vectors_found.py` says in which files) and
`batches.jsonl`: for each batch when its call of the model began and ended, and how many images were in it.
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


def given(**flags: object) -> argparse.Namespace:
    """Returns the arguments: photographs, model, output, image_size (height, width), batch_size, dimension.

    Args:
      **flags: further flags and their defaults, of the defaults' types.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=Path)
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
    """Notes when a call of the model began and ended; threads and processes may do so at once."""
    began = time.time()
    yield
    note(output, began, time.time(), images)


def note(output: str | os.PathLike[str], began: float, ended: float, images: int) -> None:
    """Appends a batch: a short line is written whole, whoever else writes."""
    with Path(output, BATCHES).open("a") as file:
        file.write(json.dumps([began, ended, images]) + "\n")


def save(output: Path, names: list[str], vectors: list[np.ndarray]) -> None:
    """Writes vectors of batches, float32 (n, dimension), and the names of their files, as one numpy archive."""
    np.savez(output / "vectors.npz", names=np.array(names), vectors=np.concatenate(vectors))
