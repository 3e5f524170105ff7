"""A table of PostgreSQL with pgvector, and its HNSW index, through psycopg 3.

Names are quoted by `psycopg.sql`, and values are parameters. Each block of rows is a transaction of its own.
"""

import time
from collections.abc import Iterator, Sequence
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

from pipeline.export.pgvector_catalog import CatalogTable
from pipeline.export.target import Model, Row, Stored, content, other_model

# The longest vectors that an HNSW index takes: https://github.com/pgvector/pgvector#hnsw
MAX_INDEXED = {"vector": 2_000, "halfvec": 4_000}
# The largest component of a halfvec.
_MAX_HALF = 65_504.0
_OPCLASSES = {"cosine": "cosine_ops", "l2": "l2_ops", "ip": "ip_ops"}
_OPERATORS = {"cosine": "<=>", "l2": "<->", "ip": "<#>"}
_COLUMNS = {
    "key": "text",
    "sha256": "text",
    "version": "text",
    "format": "text",
    "height": "integer",
    "width": "integer",
    "size": "bigint",
    "model_digest": "text",
}
_VECTOR = "embedding"
_STAGING = sql.Identifier("pg_temp", "image_embeddings_export")
_ROWS_AT_ONCE = 10_000


class PgvectorTable:
    """A target.Target: a table with one row for each key.

    Other columns of the table, if they may be null or have a default, stay as they are.
    """

    ERRORS: ClassVar[tuple[type[Exception], ...]] = (psycopg.Error,)

    def __init__(self, dsn: str | None, table: str, vector_type: str, metric: str, model: Model):
        """Connects to the server.

        Args:
          dsn: a connection string or URI; None for the variables PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSWORD, ….
          table: NAME or SCHEMA.NAME.
          vector_type: a key of MAX_INDEXED.
          metric: one of target.METRICS.
          model: of the vectors.

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
        self._notices: list[str] = []
        self._connection.add_notice_handler(lambda notice: self._notices.append(notice.message_primary or ""))
        self._types = {**_COLUMNS, _VECTOR: f"{vector_type}({model.dimension})"}

    def stored(self) -> Iterator[Stored]:
        """Yields the rows of the table, after a check that it can take those of an export, or that it can be made."""
        if not self._catalog.exists():
            self._catalog.check_absent()
            return
        self._catalog.check_present(self._types)
        query = sql.SQL("SELECT key, sha256, version, model_digest FROM {}").format(self._table)
        with self._connection.transaction(), self._connection.cursor(name="image_embeddings_export") as cursor:
            cursor.itersize = _ROWS_AT_ONCE
            cursor.execute(query)
            for key, sha256, version, digest in cursor:
                if digest != self._model.digest:
                    raise other_model(self._catalog.flag, digest, self._model)
                yield Stored(key, content(sha256, version))

    def prepare(self, sends: bool, deletes: bool) -> None:
        """Makes the extension and the table, those that are missing. A table that exists is only checked."""
        if not self._catalog.has_extension():
            self._make_extension()
        self._catalog.check_vector_type(self._vector_type)
        if self._catalog.exists():
            self._catalog.check_changes(sends, deletes)
            self._catalog.check_index(self._opclass)
        else:
            self._make_table()
        register_vector(self._connection)

    def upsert(self, rows: Sequence[Row]) -> None:
        """Copies rows into a table of this session, and merges them from there, in one transaction."""
        names = [sql.Identifier(name) for name in self._types]
        columns = sql.SQL(", ").join(names)
        updates = sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(name) for name in names)
        definitions = sql.SQL(", ").join(
            sql.SQL("{} {}").format(name, sql.SQL(kind)) for name, kind in zip(names, self._types.values(), strict=True)
        )
        with self._connection.transaction(), self._connection.cursor() as cursor:
            self._lock(cursor)
            cursor.execute(sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP").format(_STAGING, definitions))
            with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT BINARY)").format(_STAGING, columns)) as copy:
                copy.set_types([*_COLUMNS.values(), self._vector_type])
                for row in rows:
                    copy.write_row(self._values(row))
            cursor.execute(
                sql.SQL("INSERT INTO {0} ({1}) SELECT {1} FROM {2} ON CONFLICT (key) DO UPDATE SET {3}").format(
                    self._table, columns, _STAGING, updates
                )
            )

    def delete(self, row_keys: Sequence[str]) -> None:
        """Deletes the rows of some keys."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            self._lock(cursor)
            cursor.execute(sql.SQL("DELETE FROM {} WHERE key = ANY(%s)").format(self._table), [list(row_keys)])

    def finish(self, changed: bool) -> tuple[str, bool]:
        """Builds the HNSW index for the metric, if there is none. PostgreSQL keeps it up to date from then on."""
        if self._catalog.has_index(self._opclass):
            return f"HNSW ({self._opclass}), there already", changed
        began = time.monotonic()
        self._connection.execute(
            sql.SQL("CREATE INDEX ON {} USING hnsw ({} {})").format(
                self._table, sql.Identifier(_VECTOR), sql.Identifier(self._opclass)
            )
        )
        self._connection.execute(sql.SQL("ANALYZE {}").format(self._table))
        # pgvector says so when it goes on in a slower way: https://github.com/pgvector/pgvector#index-build-time
        too_little = any("maintenance_work_mem" in notice for notice in self._notices)
        remedy = "; more maintenance_work_mem makes that faster" if too_little else ""
        return f"HNSW ({self._opclass}), built in {time.monotonic() - began:.1f} s{remedy}", True

    def search(self, queries: npt.NDArray[np.float32], count: int) -> list[list[str]]:
        """Returns the keys that the index finds with the server's hnsw.ef_search, by default 40."""
        query = sql.SQL("SELECT key FROM {} ORDER BY {} {} %s LIMIT %s").format(
            self._table, sql.Identifier(_VECTOR), sql.SQL(_OPERATORS[self._metric])
        )
        answers = []
        with self._connection.transaction(), self._connection.cursor() as cursor:
            # A small table would be read as a whole, which would measure nothing.
            cursor.execute("SET LOCAL enable_seqscan = off")
            for vector in queries:
                cursor.execute(query, [self._vector(vector), count])
                answers.append([key for (key,) in cursor])
        return answers

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _lock(self, cursor: Any) -> None:
        """Lets two exports into one table take turns, block by block. Otherwise their rows could block each other."""
        name = f"image embeddings {self._catalog.flag}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])

    def _values(self, row: Row) -> list[Any]:
        info = row.info
        if self._vector_type == "halfvec" and (largest := float(np.abs(row.vector).max())) > _MAX_HALF:
            raise ValueError(
                f"{row.key!r}: a component of {largest:g} is too large for halfvec; use --vector_type vector"
            )
        facts = [info.sha256, info.ref.version, info.format, info.height, info.width, info.ref.size]
        return [row.key, *facts, self._model.digest, self._vector(row.vector)]

    def _vector(self, vector: npt.NDArray[np.float32]) -> Any:
        return HalfVector(vector) if self._vector_type == "halfvec" else Vector(vector)

    def _make_extension(self) -> None:
        try:
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
        return psycopg.connect(dsn or "", autocommit=True, application_name="image-embeddings-export")
    except psycopg.Error as error:
        message = _first_line(error)
        if password := parameters.get("password"):
            message = message.replace(str(password), "***")
        raise ValueError(f"PostgreSQL cannot be reached: {message}") from None


def _first_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split("\n", 1)[0].split()) or type(error).__name__
