"""The difference between the rows that runs have and those that a target has, in a database on disk.

Memory does not grow with the number of rows. The database takes some 200 bytes of disk for each row. Its file has no
name, lies in the directory for temporary files, and ends with the process.
"""

import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from pipeline.commands.export.target import Place, TargetRow, content, key_of_row, row_key
from transforms.encoding.stored_embeddings import Identity

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -32768; -- KiB
CREATE TABLE current (
  key TEXT PRIMARY KEY, content TEXT NOT NULL, generation INTEGER, file INTEGER NOT NULL, place INTEGER NOT NULL,
  is_file INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE stored (key TEXT PRIMARY KEY, content TEXT NOT NULL, rows INTEGER NOT NULL DEFAULT 1) WITHOUT ROWID;
CREATE TABLE listed (key TEXT PRIMARY KEY) WITHOUT ROWID;
"""
# The rule of the table in BigQuery: a row of a later run replaces one, unless it is of an earlier generation.
_ADD = """
INSERT INTO current VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
  content = excluded.content, generation = excluded.generation, file = excluded.file, place = excluded.place,
  is_file = excluded.is_file
WHERE generation IS NULL OR excluded.generation IS NULL OR excluded.generation >= generation
"""
_STORE = """
INSERT INTO stored (key, content) VALUES (?, ?)
ON CONFLICT (key) DO UPDATE SET content = excluded.content, rows = rows + 1
"""
_TO_SEND = """
SELECT current.key, file, place FROM current LEFT JOIN stored USING (key)
WHERE stored.content IS NOT current.content OR stored.rows > 1 ORDER BY file, place
"""
_UNLISTED = "FROM current WHERE NOT EXISTS (SELECT 1 FROM listed WHERE listed.key = current.key) AND within(key)"
_PRUNE = f"DELETE {_UNLISTED} AND is_file AND NOT unseen(key)"
_NOT_PRUNED = f"SELECT COUNT(*) FILTER (WHERE NOT is_file), COUNT(*) FILTER (WHERE is_file AND unseen(key)) {_UNLISTED}"
_TO_DELETE = "SELECT key FROM stored WHERE NOT EXISTS (SELECT 1 FROM current WHERE current.key = stored.key)"
_IS_DOUBLED = "SELECT 1 FROM stored WHERE key = ? AND rows > 1"
_COUNTS = """
SELECT
  (SELECT COUNT(*) FROM current),
  (SELECT COUNT(*) FROM stored),
  (SELECT COUNT(*) FROM current WHERE NOT EXISTS (SELECT 1 FROM stored WHERE stored.key = current.key)),
  (SELECT COUNT(*) FROM current JOIN stored USING (key) WHERE stored.content != current.content AND stored.rows = 1),
  (SELECT COUNT(*) FROM stored WHERE NOT EXISTS (SELECT 1 FROM current WHERE current.key = stored.key)),
  (SELECT COUNT(*) FROM current JOIN stored USING (key) WHERE stored.rows > 1)
"""
_BIGGEST_INTEGER = 2**63 - 1


class Counts(NamedTuple):
    """Numbers of keys.

    Attributes:
      current: in the runs.
      stored: in the target.
      new: only in the runs.
      replaced: in both, with different contents.
      gone: only in the target.
      doubled: in both, and in several rows of the target.
    """

    current: int
    stored: int
    new: int
    replaced: int
    gone: int
    doubled: int

    @property
    def to_send(self) -> int:
        return self.new + self.replaced + self.doubled

    @property
    def to_delete(self) -> int:
        return self.gone + self.doubled


class NotPruned(NamedTuple):
    """Numbers of rows whose images are not listed, and that stay.

    Attributes:
      maybe_no_file: their records do not say that the image was listed as a file of its own.
      maybe_unseen: their images may lie where the listing failed.
    """

    maybe_no_file: int
    maybe_unseen: int


class Difference:
    """The rows of runs and of a target. Add those of the runs first, in their order, then the target's."""

    def __init__(self) -> None:
        # No path stands for a file without a name: https://www.sqlite.org/inmemorydb.html#temp_db
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_TABLES)

    def add_current(self, file: int, records: Iterable[tuple[int, Identity]]) -> None:
        """Adds places and identities of the records of a file. A later record of a key replaces an earlier one."""
        self._add(
            _ADD,
            (
                (row_key(own.key), content(own.sha256, own.version), _generation(own.version), file, place, own.is_file)
                for place, own in records
            ),
        )

    def add_stored(self, rows: Iterable[TargetRow], is_log: bool) -> None:
        """Adds the rows of the target, in its order.

        Args:
          rows: as `Target.stored` yields them.
          is_log: whether a later row of a key replaces the earlier one. Otherwise the target has both.
        """
        store = "INSERT OR REPLACE INTO stored (key, content) VALUES (?, ?)" if is_log else _STORE
        with self._database:
            self._database.execute("BEGIN")
            for row in rows:
                if row.content is None:
                    self._database.execute("DELETE FROM stored WHERE key = ?", (row.key,))
                else:
                    self._database.execute(store, row)

    def prune(
        self, listed: Iterable[bytes], within: Callable[[bytes], bool], unseen: Callable[[bytes], bool]
    ) -> NotPruned:
        """Removes rows of the runs whose images are gone, by the rule of `prunable`.

        Args:
          listed: the keys of all images that a listing has.
          within: tells whether the listing covers a key.
          unseen: tells whether an image may be where the listing failed. It is called once `listed` has ended.
        """
        self._add("INSERT OR IGNORE INTO listed VALUES (?)", ((row_key(key),) for key in listed))
        self._database.create_function("within", 1, lambda text: within(key_of_row(text)))
        self._database.create_function("unseen", 1, lambda text: unseen(key_of_row(text)))
        not_pruned = NotPruned(*self._database.execute(_NOT_PRUNED).fetchone())
        self._database.execute(_PRUNE)
        return not_pruned

    def counts(self) -> Counts:
        """Returns how many rows there are of each kind."""
        return Counts(*self._database.execute(_COUNTS).fetchone())

    def to_send(self) -> Iterator[Place]:
        """Yields the places of rows that are new, replaced or doubled, in the order of the files."""
        return map(Place._make, self._database.execute(_TO_SEND))

    def to_delete(self) -> Iterator[str]:
        """Yields the keys that are only in the target."""
        return (key for (key,) in self._database.execute(_TO_DELETE))

    def doubled(self, row_keys: Iterable[str]) -> list[str]:
        """Returns which of these keys have several rows in the target. Delete them before one row is sent."""
        return [key for key in row_keys if self._database.execute(_IS_DOUBLED, (key,)).fetchone()]

    def leave_out(self, row_keys: Sequence[str]) -> None:
        """Forgets keys whose rows the target cannot take. `to_send` may be under way meanwhile."""
        for statement in ("DELETE FROM current WHERE key = ?", "DELETE FROM stored WHERE key = ?"):
            self._add(statement, ((key,) for key in row_keys))

    def current(self) -> Iterator[Place]:
        """Yields the places of all rows of the runs, in the order of the files."""
        return map(Place._make, self._database.execute("SELECT key, file, place FROM current ORDER BY file, place"))

    def sample(self, count: int) -> list[Place]:
        """Returns the places of `count` rows of the runs, or of all. They are the same each time, sorted by file."""
        size = self.counts().current
        chosen = set(random.Random(0).sample(range(size), min(count, size)))  # noqa: S311 - no secret
        return [place for i, place in enumerate(self.current()) if i in chosen]

    def close(self) -> None:
        self._database.close()

    def _add(self, statement: str, rows: Iterable[tuple]) -> None:
        with self._database:
            self._database.execute("BEGIN")
            self._database.executemany(statement, rows)


def _generation(version: str) -> int | None:
    """Returns the generation of an object; None for the version of a file, which is not a number."""
    number = int(version) if version.isascii() and version.isdecimal() else None
    return number if number is not None and number <= _BIGGEST_INTEGER else None
