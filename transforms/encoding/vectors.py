"""Reading files of embeddings: their keys, and their vectors as one matrix. No Beam, no TensorFlow."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from transforms.encoding import record_files


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
    """Reads files of embeddings into memory, where a vector takes 4 bytes per component.

    Args:
      paths: of the files; a name that ends in `.parquet` is that of a Parquet file, any other that of a TFRecord file.
        If a key occurs several times, as after several runs, its last vector counts.
      open_file: path → the file, opened for reading.

    Raises:
      ValueError: if a file is broken, there is no embedding, or the embeddings are of several models.
      OSError: if a file cannot be read.
    """
    matrix = _GrowingMatrix()
    for path in paths:
        with open_file(path) as file:
            try:
                for stored in record_files.vectors(path, file):
                    matrix.add(stored.keys, stored.matrix, stored.models)
            except ValueError as error:
                raise ValueError(f"{path!r}: {error}") from error
    return matrix.vectors()


class _GrowingMatrix:
    """A matrix that grows by batches of records, with one row for each key."""

    def __init__(self) -> None:
        self._rows: dict[bytes, int] = {}
        self._components = bytearray()  # grows in place, so that memory never holds two copies
        self._model: tuple[str, str] | None = None
        self._dimension = 0

    def add(self, keys: Sequence[bytes], vectors: npt.NDArray[np.float32], models: Sequence[tuple[str, str]]) -> None:
        """Adds embeddings, one or more. Raises ValueError if they do not match the earlier ones."""
        self._model, self._dimension = self._model or models[0], self._dimension or vectors.shape[1]
        if others := set(models) - {self._model}:
            raise ValueError(
                f"vectors of {_described(self._model)} and of {_described(others.pop())}: expected those of one "
                "model; give the directory of one run, below embeddings/"
            )
        if vectors.shape[1] != self._dimension:
            raise ValueError(
                f"vectors of {vectors.shape[1]} and of {self._dimension} dimensions: expected the same number"
            )
        for key, vector in zip(keys, vectors, strict=True):
            row = self._rows.setdefault(key, len(self._rows))
            self._components[row * vector.nbytes : (row + 1) * vector.nbytes] = vector.tobytes()

    def vectors(self) -> Vectors:
        """Returns all that was added. Raises ValueError if there was nothing."""
        if self._model is None:
            raise ValueError("no embeddings: expected at least one")
        matrix = np.frombuffer(self._components, np.float32).reshape(len(self._rows), self._dimension)
        return Vectors(tuple(self._rows), matrix, *self._model)


def _described(model: tuple[str, str]) -> str:
    name, digest = model
    return f"{name} (digest {digest})"
