"""The interface of an export's target."""

import abc
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from transforms.elements import keys
from transforms.elements.image_columns import columns_of
from transforms.elements.records import ImageInfo

METRICS = ("cosine", "l2", "ip")
# The columns of a row besides its vector, in a target that has columns.
COLUMNS = ("key", "sha256", "version", "format", "height", "width", "size", "model_digest")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPE_OF_CONTROL = r"x(?:[01][0-9a-f]|7f)"
# Backslashes of a key that would be read as the start of an escape. `row_key` writes an escape in their place.
_MISLEADING = re.compile(rf"\\(?={_ESCAPE_OF_CONTROL})")
_ESCAPED = re.compile(rf"\\(?:x5c(?={_ESCAPE_OF_CONTROL})|{_ESCAPE_OF_CONTROL})")


class Model(NamedTuple):
    """The digest of the model, and the number of components of its vectors."""

    digest: str
    dimension: int


class Place(NamedTuple):
    """Where a row of the runs lies: its key, the number of its file, and its place in the file."""

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

    def columns(self, model: Model) -> list[str | int]:
        """Returns the values of COLUMNS."""
        values = {**columns_of(self.info), "key": self.key, "model_digest": model.digest}
        return [values[name] for name in COLUMNS]


class TargetRow(NamedTuple):
    """A row that a target has: its key, and its `content`; None if the row was deleted."""

    key: str
    content: str | None


class LeftOut(NamedTuple):
    """A row that a target can never take: its key, and the reason."""

    key: str
    reason: str


class Target(abc.ABC):
    """A table, a dataset or a directory of files, for the vectors of one model.

    `stored` raises ValueError if the target cannot take rows of this model.

    Attributes:
      ERRORS: what its client raises if the target fails.
      IS_LOG: whether `stored` yields a key again for each change of its row. Then the last one counts. Otherwise a key
        that is yielded again has several rows.
    """

    ERRORS: ClassVar[tuple[type[Exception], ...]]
    IS_LOG: ClassVar[bool]

    @abc.abstractmethod
    def stored(self) -> Iterator[TargetRow]:
        """Yields the rows that are there."""

    @abc.abstractmethod
    def prepare(self, sends: bool, deletes: bool) -> None:
        """Makes the table or directory if there is none, and checks what can be checked before rows are changed.

        Raises ValueError if the export will send or delete rows and this user may not.
        """

    @abc.abstractmethod
    def upsert(self, rows: Sequence[Row]) -> list[LeftOut]:
        """Writes rows, all of them or none, and returns those that it can never take. A row replaces one of its key."""

    @abc.abstractmethod
    def delete(self, row_keys: Sequence[str]) -> None:
        """Deletes all rows of some keys, or none."""

    @abc.abstractmethod
    def finish(self, changed: bool, say: Callable[[str], None]) -> tuple[str, bool]:
        """Builds the index if rows have changed or there is none; `say` shows a line while that lasts.

        Returns a line that describes the outcome, and whether there is an index whose recall should be measured.
        """

    def search(self, queries: npt.NDArray[np.float32], count: int) -> list[list[str]]:
        """Returns the keys of the nearest `count` rows that the index finds for each query (n, dimension)."""
        raise NotImplementedError("no index")

    def close(self) -> None:  # noqa: B027 - most targets have no connection
        """Ends the connection, if there is one."""


def row_key(key: bytes) -> str:
    r"""Returns a key as text without control characters, some of which break PostgreSQL or a list of lines.

    No two keys have the same text: a key that has an escape such as `\x0a` of its own gets `\x5c` for its backslash.

    >>> print(row_key(b"a\nb\xe9"), row_key(rb"a\x0ab"))
    a\x0ab\xe9 a\x5cx0ab
    """
    text = _MISLEADING.sub(lambda _: r"\x5c", keys.text(key))
    return _CONTROL.sub(lambda character: f"\\x{ord(character[0]):02x}", text)


def key_of_row(text: str) -> bytes:
    r"""Returns the key from its `row_key`.

    >>> key_of_row(r"a\x0ab\xe9")
    b'a\nb\xe9'
    """
    return keys.of_text(_ESCAPED.sub(lambda escape: chr(int(escape[0][2:], 16)), text))


def content(sha256: str, version: str) -> str:
    """Returns text that identifies a content. A row with the same key and the same content is not sent again."""
    return f"{sha256} {version}"


def target_rows(target: str, rows: Iterable[Sequence[str]], model: Model) -> Iterator[TargetRow]:
    """Yields the rows of a target, each given as its (key, sha256, version, model_digest).

    Raises:
      ValueError: if a row is of another model.
    """
    for key, sha256, version, digest in rows:
        if digest != model.digest:
            raise other_model(target, digest, model)
        yield TargetRow(key, content(sha256, version))


def other_model(target: str, digest: str, model: Model) -> ValueError:
    """Returns the error for a target that has vectors of another model."""
    return ValueError(
        f"{target} has vectors of model digest {digest}, and --embeddings has those of {model.digest}: expected the "
        "same model, because vectors of two models cannot be compared; choose another target"
    )
