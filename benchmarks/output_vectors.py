"""The vectors in a contender's output directory, by the names of their images.

A contender may write numpy archives (`names`, `vectors`), Parquet files (columns `path`, `vector`) or this project's
records.
"""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt


def read(output: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Returns name of the image's file → its vector, float32 (d,).

    Raises:
      ValueError: if an image has two vectors.
    """
    pairs: list[tuple[str, npt.NDArray[np.float32]]] = []
    for path in output.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            pairs += zip(arrays["names"].tolist(), arrays["vectors"], strict=True)
    for path in output.rglob("*.parquet"):
        pairs += _parquet(path)
    if records := sorted(output.glob("embeddings/*/part-*.tfrecord")):
        from transforms.encoding import vectors

        table = vectors.read([str(path) for path in records], _open)
        pairs += [(key.decode(), vector) for key, vector in zip(table.keys, table.matrix, strict=True)]
    by_name = {Path(name).name: vector for name, vector in pairs}
    if len(by_name) < len(pairs):
        raise ValueError(f"{len(pairs)} vectors of {len(by_name)} files: expected one vector a file")
    return by_name


def cosines(vectors: dict[str, npt.NDArray], expected: dict[str, npt.NDArray]) -> npt.NDArray[np.float64]:
    """Returns the cosine between the two vectors of each name in `expected`, in its order."""
    one = np.stack([vectors[name] for name in expected]).astype(np.float64)
    other = np.stack(list(expected.values())).astype(np.float64)
    return (one * other).sum(1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))


def _open(path: str) -> BinaryIO:
    return Path(path).open("rb")


def _parquet(path: Path) -> list[tuple[str, npt.NDArray[np.float32]]]:
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["path", "vector"])
    vectors = (np.asarray(vector, np.float32) for vector in table.column("vector").to_pylist())
    return list(zip(table.column("path").to_pylist(), vectors, strict=True))
