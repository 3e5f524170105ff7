"""A table of PostgreSQL with pgvector, and its HNSW index, through psycopg 3.

Names are quoted by `psycopg.sql`, and values are parameters. Each block of rows is a transaction of its own.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

try:
    import psycopg
    from pgvector import HalfVector, Vector
    from pgvector.psycopg import register_vector
    from psycopg import conninfo, sql
except ImportError as missing:
    raise ValueError("--to pgvector needs psycopg and pgvector: pip install '.[pgvector]'") from missing

from pipeline.commands.export.pgvector_catalog import CatalogTable
from pipeline.commands.export.target import COLUMNS, LeftOut, Model, Row, Target, TargetRow, other_model, target_rows

# The longest vectors that an HNSW index takes: https://github.com/pgvector/pgvector#hnsw
MAX_INDEXED = {"vector": 2_000, "halfvec": 4_000}
# The largest component of a halfvec.
_MAX_HALF = 65_504.0
_OPCLASSES = {"cosine": "cosine_ops", "l2": "l2_ops", "ip": "ip_ops"}
_OPERATORS = {"cosine": "<=>", "l2": "<->", "ip": "<#>"}
_COLUMNS = dict.fromkeys(COLUMNS, "text") | {"height": "integer", "width": "integer", "size": "bigint"}
_VECTOR = "embedding"
_STAGING = sql.Identifier("pg_temp", "image_embeddings_export")
_ROWS_AT_ONCE = 10_000
# IF NOT EXISTS does not see what another session is creating, and then raises one of these errors.
_MADE_MEANWHILE = (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable, psycopg.errors.DuplicateObject)
# The errors for a row that the server can never take, such as one whose key is too long for an index.
_UNFIT = (psycopg.errors.ProgramLimitExceeded, psycopg.DataError)
# Lifts, for one transaction, limits that administrators set for people and web servers. An index may take hours.
# Settings of the user for this command alone, as in PGOPTIONS, stay.
_NO_LIMITS = """
SELECT set_config(name, '0', true) FROM pg_settings WHERE source != 'client' AND name IN
('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')
"""


class PgvectorTable(Target):
    """A table with one row for each key.

    Other columns of the table, if they may be null or have a default, stay as they are.
    """

    ERRORS: ClassVar[tuple[type[Exception], ...]] = (psycopg.Error,)
    IS_LOG: ClassVar[bool] = False

    def __init__(self, dsn: str | None, table: str, vector_type: str, metric: str, model: Model):
        """Connects to the server.

        Args:
          dsn: a connection string or URI; None for the variables PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSWORD, ….
          table: NAME or SCHEMA.NAME.
          vector_type: a key of MAX_INDEXED.
          metric: one of target.METRICS.

        Raises:
          ValueError: if the server cannot be reached, or an index cannot take vectors of this dimension.
        """
        if model.dimension > MAX_INDEXED[vector_type]:
            remedy = "; use --vector_type halfvec" if model.dimension <= MAX_INDEXED["halfvec"] else ""
            raise ValueError(
                f"vectors of {model.dimension} dimensions: expected at most {MAX_INDEXED[vector_type]}, which is what "
                f"an HNSW index takes of the type {vector_type}{remedy}"
            )
        self._vector_type, self._metric, self._model = vector_type, metric, model
        self._opclass = f"{vector_type}_{_OPCLASSES[metric]}"
        self._connection = _connected(dsn)
        self._catalog = CatalogTable(self._connection, table)
        self._table = self._catalog.identifier
        self._notices: list[tuple[str | None, str]] = []
        self._connection.add_notice_handler(
            lambda notice: self._notices.append((notice.sqlstate, notice.message_primary or ""))
        )
        self._types = {**_COLUMNS, _VECTOR: f"{vector_type}({model.dimension})"}

    def stored(self) -> Iterator[TargetRow]:
        """Yields the rows of the table. Checks first that the table can take an export's rows, or can be made."""
        if not self._catalog.exists():
            self._catalog.check_absent()
            return
        self._catalog.check_present(self._types)
        query = sql.SQL("SELECT key, sha256, version, model_digest FROM {}").format(self._table)
        with self._transaction(), self._connection.cursor(name="image_embeddings_export") as cursor:
            cursor.itersize = _ROWS_AT_ONCE
            cursor.execute(query)
            yield from target_rows(self._catalog.flag, cursor, self._model)

    def prepare(self, sends: bool, deletes: bool) -> None:
        """Makes the extension and the table if they are missing. A table that exists is only checked."""
        exists = self._catalog.has_extension() and self._catalog.exists()
        if sends or deletes or not exists or not self._catalog.has_index(_VECTOR, self._opclass):
            self._catalog.check_server()
        if not self._catalog.has_extension():
            self._make_extension()
        self._catalog.check_vector_type(self._vector_type)
        if self._catalog.exists():
            self._catalog.check_changes(sends, deletes)
            self._catalog.check_index(_VECTOR, self._opclass)
        else:
            self._make_table()
            self._catalog.check_present(self._types)  # another export may have made it meanwhile
        register_vector(self._connection)

    def upsert(self, rows: Sequence[Row]) -> list[LeftOut]:
        """Writes rows in one transaction. If the server refuses a row, bisection finds it."""
        too_large = [unfit for row in rows if (unfit := self._too_large(row))]
        names = {row.key for row in too_large}
        return too_large + self._merge_in_halves([row for row in rows if row.key not in names])

    def _merge_in_halves(self, rows: Sequence[Row]) -> list[LeftOut]:
        if not rows:
            return []
        try:
            self._merge(rows)
            return []
        except _UNFIT as error:
            if len(rows) == 1:
                return [LeftOut(rows[0].key, _first_line(error))]
        half = len(rows) // 2
        return self._merge_in_halves(rows[:half]) + self._merge_in_halves(rows[half:])

    def _merge(self, rows: Sequence[Row]) -> None:
        """Copies rows into a table of this session, and merges them from there, in one transaction."""
        names = [sql.Identifier(name) for name in self._types]
        columns = sql.SQL(", ").join(names)
        updates = sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(name) for name in names)
        definitions = sql.SQL(", ").join(
            sql.SQL("{} {}").format(name, sql.SQL(kind)) for name, kind in zip(names, self._types.values(), strict=True)
        )
        with self._transaction() as cursor:
            self._lock(cursor)
            cursor.execute(sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP").format(_STAGING, definitions))
            with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT BINARY)").format(_STAGING, columns)) as copy:
                copy.set_types([*_COLUMNS.values(), self._vector_type])
                for row in rows:
                    copy.write_row([*row.columns(self._model), self._vector(row.vector)])
            cursor.execute(
                sql.SQL("INSERT INTO {0} ({1}) SELECT {1} FROM {2} ON CONFLICT (key) DO UPDATE SET {3}").format(
                    self._table, columns, _STAGING, updates
                )
            )
            if cursor.rowcount != len(rows):
                raise ValueError(
                    f"{self._catalog.flag} took {cursor.rowcount:,} of {len(rows):,} rows: expected all; does a "
                    "trigger or a rule of the table keep rows away?"
                )

    def delete(self, row_keys: Sequence[str]) -> None:
        with self._transaction() as cursor:
            self._lock(cursor)
            query = sql.SQL("DELETE FROM {} WHERE key = ANY(%s)").format(self._catalog.beside_values)
            cursor.execute(query, [list(row_keys)])

    def finish(self, changed: bool, say: Callable[[str], None]) -> tuple[str, bool]:
        """Builds the HNSW index for the metric, if there is none. PostgreSQL keeps it up to date from then on.

        The server continues to build an index if its client is killed. The next export then waits for that index.
        """
        if self._catalog.has_index(_VECTOR, self._opclass):
            return f"HNSW ({self._opclass}), there already", changed
        began = time.monotonic()
        free = self._connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [self._lock_id]).fetchone()
        say("building the index" if free == (True,) else "waiting for another export, which may be building the index")
        name = self._catalog.index_name(self._opclass)
        self._notices.clear()  # one may be of the table
        # Statements of one message are one transaction, which the server completes even if its client is killed.
        statements = (
            sql.SQL(_NO_LIMITS),
            sql.SQL("SELECT pg_advisory_xact_lock({})").format(self._lock_id),
            sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw ({} {})").format(
                sql.Identifier(name), self._table, sql.Identifier(_VECTOR), sql.Identifier(self._opclass)
            ),
            sql.SQL("ANALYZE {}").format(self._table),
        )
        self._connection.execute(sql.SQL(";").join(statements))
        if not self._catalog.has_index(_VECTOR, self._opclass):
            raise ValueError(
                f"{self._catalog.flag} has no index HNSW ({self._opclass}), and the name {name!r} of its own is taken: "
                "expected a free name; DROP INDEX removes an invalid index, which CREATE INDEX CONCURRENTLY may leave"
            )
        if any(code == psycopg.errors.DuplicateTable.sqlstate for code, _ in self._notices):
            return f"HNSW ({self._opclass}), built by another export meanwhile", True
        # pgvector says when it continues more slowly: https://github.com/pgvector/pgvector#index-build-time
        too_little = any("maintenance_work_mem" in message for _, message in self._notices)
        remedy = "; more maintenance_work_mem makes that faster" if too_little else ""
        return f"HNSW ({self._opclass}), built in {time.monotonic() - began:.1f} s{remedy}", True

    def search(self, queries: npt.NDArray[np.float32], count: int) -> list[list[str]]:
        """Returns the keys that the index finds with the server's hnsw.ef_search, by default 40."""
        query = sql.SQL("SELECT key FROM {} ORDER BY {} {} %s LIMIT %s").format(
            self._catalog.beside_values, sql.Identifier(_VECTOR), sql.SQL(_OPERATORS[self._metric])
        )
        answers = []
        with self._transaction() as cursor:
            # A small table would be read as a whole, which would measure nothing.
            cursor.execute("SET LOCAL enable_seqscan = off")
            for vector in queries:
                cursor.execute(query, [self._vector(vector), count])
                answers.append([key for (key,) in cursor])
        return answers

    def close(self) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[psycopg.Cursor]:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(_NO_LIMITS)
            yield cursor

    def _lock(self, cursor: psycopg.Cursor) -> None:
        """Lets two exports into one table take turns, block by block. Otherwise their rows could block each other.

        Another one may have made the table meanwhile, or filled it. All its rows are of one model, so one row suffices.
        """
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [self._lock_id])
        one = cursor.execute(sql.SQL("SELECT model_digest FROM {} LIMIT 1").format(self._table)).fetchone()
        if one and one[0] != self._model.digest:
            raise other_model(self._catalog.flag, one[0], self._model)

    @functools.cached_property
    def _lock_id(self) -> int:
        """The number of the lock that exports into the same table share, whatever name they use for it."""
        return self._catalog.lock_id()

    def _too_large(self, row: Row) -> LeftOut | None:
        largest = float(np.abs(row.vector).max())
        if self._vector_type != "halfvec" or largest <= _MAX_HALF:
            return None
        return LeftOut(row.key, f"a component of {largest:g} is too large for halfvec; use --vector_type vector")

    def _vector(self, vector: npt.NDArray[np.float32]) -> Any:
        return HalfVector(vector) if self._vector_type == "halfvec" else Vector(vector)

    def _make_extension(self) -> None:
        try:
            with contextlib.suppress(*_MADE_MEANWHILE):
                self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except psycopg.Error as error:
            raise ValueError(
                f"the server has no pgvector that this user may use: expected the extension vector "
                f"({_first_line(error)})"
            ) from error

    def _make_table(self) -> None:
        columns = [
            sql.SQL("{} {} NOT NULL").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in self._types.items()
        ]
        with contextlib.suppress(*_MADE_MEANWHILE):
            self._connection.execute(
                sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY (key))").format(
                    self._table, sql.SQL(", ").join(columns)
                )
            )


def _connected(dsn: str | None) -> psycopg.Connection:
    """Returns a connection. No error quotes the connection string, which may have a password in it."""
    try:
        parameters = conninfo.conninfo_to_dict(dsn or "")
    except psycopg.Error:
        raise ValueError(
            "--dsn: expected a connection string such as 'host=localhost dbname=images', or postgresql://HOST/DATABASE"
        ) from None
    try:
        # A pool such as PgBouncer may send each transaction to another server process, which lacks prepared statements.
        return psycopg.connect(
            dsn or "", autocommit=True, prepare_threshold=None, application_name="image-embeddings-export"
        )
    except psycopg.Error as error:
        if "@" in str(parameters.get("host", "")):
            raise ValueError(
                "--dsn: a host with an @, which may be the end of a password: expected %40 for an @ in a password"
            ) from None
        message = _first_line(error)
        for secret in filter(None, (parameters.get("password"), parameters.get("sslpassword"))):
            message = message.replace(str(secret), "***")
        raise ValueError(f"PostgreSQL cannot be reached: {message}") from None


def _first_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split("\n", 1)[0].split()) or type(error).__name__
