"""The vectors of runs in a file that is mapped into memory, so that a query does not read the records again."""

import array
import os
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.commands.search.nearest import Neighbour, cosines, lengths_of, nearest
from pipeline.known import vector_shards
from transforms.elements.keys import hashed

_ROWS_PER_BLOCK = 4096


class Index:
    """Vectors of images, each once. Thread-safe.

    They lie in temporary files without names, which end with the process. Memory holds 22 bytes per image, and as much
    of the files as the page cache keeps. Two keys with the same 64 bits of BLAKE2 would count as one.
    """

    def __init__(self, shards: Sequence[str]):
        """Reads the vectors of files, as `vector_shards.paths` returns them. The last vector of a key counts.

        Raises:
          ValueError: if a file cannot be read, or has vectors of another model than the last one.
        """
        self.digest = vector_shards.digest(shards)
        self._keys = tempfile.TemporaryFile()  # noqa: SIM115 - ends with the index
        components = tempfile.TemporaryFile()  # noqa: SIM115 - mapped below
        ends, hashes = array.array("q", [0]), array.array("Q")
        lengths = array.array("f")
        are_files = array.array("b")
        for block in vector_shards.blocks(shards, self.digest):
            components.write(np.ascontiguousarray(block.matrix).data)
            lengths.frombytes(lengths_of(block.matrix).tobytes())
            self._keys.write(b"".join(block.keys))
            are_files.extend(block.are_files)
            for key in block.keys:
                ends.append(ends[-1] + len(key))
                hashes.append(_hash(key))
        for file in (components, self._keys):
            file.flush()
        self._ends = np.frombuffer(ends, np.int64)
        self._matrix = np.memmap(components, np.float32, "r").reshape(len(hashes), -1)
        # np.unique returns the first row of each hash, so it gets them from the end.
        _, from_end = np.unique(np.frombuffer(hashes, np.uint64)[::-1], return_index=True)
        self._rows = len(hashes) - 1 - from_end
        self._is_outdated = np.ones(len(hashes), bool)
        self._is_outdated[self._rows] = False
        self._lengths = np.frombuffer(lengths, np.float32)
        self._are_files = np.frombuffer(are_files, bool)

    def __len__(self) -> int:
        return len(self._rows)

    def key(self, row: int) -> bytes:
        """Returns the key of a row. Raises IndexError if there is no such row."""
        if not 0 <= row < len(self._matrix):
            raise IndexError(f"no row {row}")
        start, end = self._ends[row : row + 2].tolist()
        return os.pread(self._keys.fileno(), end - start, start)

    def is_file(self, row: int) -> bool:
        """Returns whether the image of a row was listed as a file, so that its key may be opened. Raises as `key`."""
        if not 0 <= row < len(self._matrix):
            raise IndexError(f"no row {row}")
        return bool(self._are_files[row])

    def sample(self, count: int) -> list[int]:
        """Returns `count` rows, or all, the same ones each time."""
        step = max(1, len(self) // count)
        return self._rows[::step][:count].tolist()

    def vector(self, row: int) -> npt.NDArray[np.float32]:
        """Returns the vector of a row, float32 (dimension,)."""
        return np.array(self._matrix[row])

    def nearest(self, query: npt.NDArray[np.float32], count: int) -> list[Neighbour[int]]:
        """Returns the rows of the nearest images to a vector, float32 (dimension,), the nearest first."""

        def blocks() -> Iterator[tuple[Sequence[int], npt.NDArray[np.float32]]]:
            for start in range(0, len(self._matrix), _ROWS_PER_BLOCK):
                rows = slice(start, start + _ROWS_PER_BLOCK)
                values = cosines(self._matrix[rows], query, self._lengths[rows])
                values[self._is_outdated[rows]] = -np.inf  # no candidate
                yield range(start, start + len(values)), values

        return nearest(blocks, count)


def _hash(key: bytes) -> int:
    return int.from_bytes(hashed(key))
