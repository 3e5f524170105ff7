"""What a target of an export takes and answers."""

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from transforms import keys
from transforms.records import ImageInfo

METRICS = ("cosine", "l2", "ip")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Model(NamedTuple):
    """The digest of the model, and the number of components of its vectors."""

    digest: str
    dimension: int


class Place(NamedTuple):
    """The place of a row: its key, the number of its file, and the place in the file."""

    key: str
    file: int
    offset: int


class Row(NamedTuple):
    """A row of a target.

    Attributes:
      key: as `row_key` returns it.
      info: the facts of the image.
      vector: float32 (dimension,).
    """

    key: str
    info: ImageInfo
    vector: npt.NDArray[np.float32]


class Stored(NamedTuple):
    """A row that a target has: its key, and its content as `content` names it. None if the row was deleted."""

    key: str
    content: str | None


class Target(Protocol):
    """A table, a dataset or a directory of files. It is of one model.

    A target of another model or of another vector type refuses with a ValueError in `stored`, before it is changed.

    Attributes:
      ERRORS: what its client raises if the target fails.
    """

    ERRORS: ClassVar[tuple[type[Exception], ...]]

    def stored(self) -> Iterator[Stored]:
        """Yields the rows that are there. If a key comes again, its later row counts."""

    def prepare(self) -> None:
        """Makes the table or directory if there is none."""

    def upsert(self, rows: Sequence[Row]) -> None:
        """Writes rows, all of them or none. A row replaces one of the same key."""

    def delete(self, row_keys: Sequence[str]) -> None:
        """Deletes the rows of some keys, all of them or none."""

    def finish(self, changed: bool) -> tuple[str, bool]:
        """Completes the target: builds its index.

        Args:
          changed: whether rows were written or deleted.

        Returns:
          A line that describes the outcome, and whether there is an index whose recall should be measured.
        """

    def search(self, queries: npt.NDArray[np.float32], count: int) -> list[list[str]]:
        """Returns the keys of the nearest `count` rows that the index finds for each query (n, dimension)."""

    def close(self) -> None:
        """Ends the connection, if there is one."""


def row_key(key: bytes) -> str:
    r"""Returns a key as text without control characters: neither PostgreSQL nor a list of lines takes all of them.

    >>> print(row_key(b"a\nb\xe9"))
    a\x0ab\xe9
    """
    return _CONTROL.sub(lambda character: f"\\x{ord(character[0]):02x}", keys.text(key))


def content(sha256: str, version: str) -> str:
    """Returns what tells two contents of one key apart: two records with the same one need not be sent twice."""
    return f"{sha256} {version}"


def other_model(target: str, digest: str, model: Model) -> ValueError:
    """Returns the error for a target that has vectors of another model."""
    return ValueError(
        f"{target} has vectors of model digest {digest}, and --embeddings has those of {model.digest}: expected the "
        "same model, because vectors of two models cannot be compared; choose another target"
    )
