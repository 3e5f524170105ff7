"""Embeddings' files read back: keys, and the vectors as one matrix. No Beam, no TensorFlow."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from transforms.encoding import examples, tfrecord

_BATCH = 256
# Far above any embedding: a bound on what a broken file can make a reader allocate.
_MAX_RECORD_BYTES = 2**26


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Vectors of one model.

    Attributes:
      keys: each once.
      matrix: float32 (len(keys), dimension).
      model_name, model_digest: as recorded.
    """

    keys: tuple[bytes, ...]
    matrix: npt.NDArray[np.float32]
    model_name: str
    model_digest: str


def read(paths: Iterable[str], open_file: Callable[[str], BinaryIO]) -> Vectors:
    """Reads files of embeddings into memory, where a vector takes 4 bytes a component.

    Args:
      paths: of the files; of a key that is there several times, as after several runs, the last one counts.
      open_file: path → the file, opened for reading.

    Raises:
      ValueError: if a file is broken, there is no embedding, or there are those of several models.
      OSError: if a file cannot be read.
    """
    rows: dict[bytes, int] = {}
    matrix = bytearray()  # grows in place, so that there is no moment with two copies
    model: tuple[str, str] | None = None
    dimension = 0
    for path in paths:
        with open_file(path) as file:
            try:
                records = tfrecord.read(file, _MAX_RECORD_BYTES)
                while batch := list(itertools.islice(records, _BATCH)):
                    keys, vectors, models = examples.decode_embeddings(batch)
                    model, dimension = model or models[0], dimension or vectors.shape[1]
                    if others := set(models) - {model}:
                        raise ValueError(
                            f"vectors of {_described(model)} and of {_described(others.pop())}: expected those of one "
                            "model; give the directory of one run, below embeddings/"
                        )
                    if vectors.shape[1] != dimension:
                        raise ValueError(f"vectors of {vectors.shape[1]} and of {dimension} dimensions: expected one")
                    for key, vector in zip(keys, vectors, strict=True):
                        row = rows.setdefault(key, len(rows))
                        matrix[row * vector.nbytes : (row + 1) * vector.nbytes] = vector.tobytes()
            except ValueError as error:
                raise ValueError(f"{path!r}: {error}") from error
    if model is None:
        raise ValueError("no embeddings: expected at least one")
    found = np.frombuffer(matrix, np.float32).reshape(len(rows), dimension)
    return Vectors(tuple(rows), found, *model)


def _described(model: tuple[str, str]) -> str:
    return f"{model[0]} (digest {model[1][:12]})"
