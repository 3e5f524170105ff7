"""A table of PostgreSQL as its catalog describes it: whether an export can fill it, and whether this user may."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import sql

# The longest name that PostgreSQL keeps whole.
_MAX_BYTES = 63
# Kinds of relations, as in pg_class.relkind: a table may be partitioned.
_TABLES = ("r", "p")
_OTHER_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "i": "an index"}


class CatalogTable:
    """A table, there or not. Each check raises ValueError, and changes nothing.

    Attributes:
      flag: the flag that named it, for messages.
      identifier: its name for queries without parameters, quoted.
      beside_values: its name for queries with parameters, where `%` would start a placeholder of psycopg.
    """

    def __init__(self, connection: psycopg.Connection, table: str):
        """Asks nothing yet. `table` is NAME or SCHEMA.NAME."""
        self._connection = connection
        names = table.split(".", 1)
        self._schema = names[0] if len(names) > 1 else None
        self._name = names[-1]
        self.flag = f"--table {table!r}"
        self.identifier = sql.Identifier(*names)
        self.beside_values = sql.Identifier(*(name.replace("%", "%%") for name in names))

    def exists(self) -> bool:
        """Returns whether there is anything of this name. Raises ValueError without a schema for it."""
        self._check_schema("USAGE")
        return self._oid() is not None

    def check_absent(self) -> None:
        """Checks that the table can be made."""
        self._check_schema("CREATE")

    def check_present(self, types: Mapping[str, str]) -> None:
        """Checks that the table can take rows with columns of these types, and that this user may read it."""
        self._check_kind()
        self._check_all_rows_seen()
        self._check_columns(types)
        self._check_key()
        self._check_rights(["SELECT"])

    def check_changes(self, sends: bool, deletes: bool) -> None:
        """Checks that this user may send and delete rows."""
        # Rows are sent by way of a temporary table.
        if sends and self._row("SELECT has_database_privilege(current_database(), 'TEMPORARY')") == (False,):
            raise ValueError("this user lacks TEMPORARY on the database: expected a grant")
        self._check_rights([*(["INSERT", "UPDATE"] if sends else []), *(["DELETE"] if deletes else [])])

    def check_server(self) -> None:
        """Checks that the server takes changes."""
        if self._row("SHOW transaction_read_only") == ("on",):
            raise ValueError(
                "the server takes no changes, as it is a replica or has default_transaction_read_only: expected the "
                "primary server"
            )

    def check_index(self, column: str, opclass: str) -> None:
        """Checks that there is an HNSW index of a column and an operator class, or that this user may build it."""
        may_build = self._row(
            "SELECT pg_has_role(relowner, 'USAGE') AND has_schema_privilege(relnamespace, 'CREATE') "
            "FROM pg_class WHERE oid = %s",
            self._oid(),
        )
        if may_build == (False,) and not self.has_index(column, opclass):
            raise ValueError(
                f"{self.flag} has no index HNSW ({opclass}), and this user may build none: expected the owner of the "
                "table, with CREATE on its schema"
            )

    def has_index(self, column: str, opclass: str) -> bool:
        """Returns whether there is an HNSW index of a column and an operator class, complete and of all rows."""
        index = self._row(
            "SELECT 1 FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam "
            "JOIN pg_opclass ON pg_opclass.oid = indclass[0] "
            "JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0] "
            "WHERE indrelid = %s AND attname = %s AND amname = 'hnsw' AND opcname = %s AND indisvalid "
            "AND indpred IS NULL",
            self._oid(),
            column,
            opclass,
        )
        return index is not None

    def index_name(self, opclass: str) -> str:
        """Returns the name of the index that an export builds, the same each time, of at most 63 bytes."""
        name = f"{self._name}_{opclass}_idx"
        if len(name.encode()) > _MAX_BYTES:
            name = f"{hashlib.sha256(self._name.encode()).hexdigest()[:16]}_{opclass}_idx"
        return name

    def lock_id(self) -> int:
        """Returns the number of the advisory lock that exports into the table share, whatever name they use for it."""
        (number,) = self._row("SELECT hashtextextended('image embeddings ' || %s::text, 0)", self._oid()) or (0,)
        return int(number)

    def has_extension(self) -> bool:
        """Returns whether the database has pgvector."""
        return self._row("SELECT 1 FROM pg_extension WHERE extname = 'vector'") is not None

    def check_vector_type(self, vector_type: str) -> None:
        """Checks that a type of pgvector needs no schema before its name."""
        unseen = self._row(
            "SELECT extversion, nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace "
            "WHERE extname = 'vector' AND to_regtype(%s) IS NULL",
            vector_type,
        )
        if unseen:
            raise ValueError(
                f"there is no type {vector_type} in search_path: the extension vector {unseen[0]} is in the schema "
                f"{unseen[1]!r}: expected this schema in search_path, and version 0.7 for halfvec"
            )

    def _check_schema(self, right: str) -> None:
        schema = self._row(
            "SELECT nspname, has_schema_privilege(oid, %s) FROM pg_namespace "
            "WHERE nspname = COALESCE(%s::name, current_schema())",
            right,
            self._schema,
        )
        if schema is None and self._schema is None:
            raise ValueError("no schema in search_path exists for this user: expected --table SCHEMA.NAME")
        if schema is None:
            raise ValueError(f"{self.flag}: there is no schema {self._schema!r}: expected one that exists")
        if not schema[1]:
            raise ValueError(f"{self.flag}: this user lacks {right} on the schema {schema[0]!r}: expected a grant")

    def _check_kind(self) -> None:
        (kind,) = self._row("SELECT relkind::text FROM pg_class WHERE oid = %s", self._oid()) or ("",)
        if kind not in _TABLES:
            raise ValueError(f"{self.flag} is {_OTHER_KINDS.get(kind, 'something else')}: expected a table")

    def _check_all_rows_seen(self) -> None:
        if self._row("SELECT row_security_active(%s::oid)", self._oid()) == (True,):
            raise ValueError(
                f"{self.flag} has row security, which hides rows from this user: expected its owner, or BYPASSRLS"
            )

    def _check_columns(self, types: Mapping[str, str]) -> None:
        columns = self._connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull AND NOT atthasdef AND attidentity = '' "
            "FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped",
            [self._oid()],
        ).fetchall()
        # The extension may lie in a schema of its own.
        existing = {name: kind.rpartition(".")[2] for name, kind, _ in columns}
        for name, kind in types.items():
            if existing.get(name) != kind:
                raise ValueError(
                    f"{self.flag}: its column {name!r} is {existing.get(name, 'missing')}: expected {kind}; choose "
                    "another table, or drop this one"
                )
        for name, _, needs_value in columns:
            if needs_value and name not in types:
                raise ValueError(
                    f"{self.flag}: its column {name!r} needs a value: expected a default, or that it may be null"
                )

    def _check_key(self) -> None:
        """Raises ValueError if no unique index lets a row replace another of the same key."""
        index = self._row(
            "SELECT 1 FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0] "
            "WHERE indrelid = %s AND attname = 'key' AND indnkeyatts = 1 AND indisunique AND indimmediate "
            "AND indisvalid AND indpred IS NULL",
            self._oid(),
        )
        if not index:
            raise ValueError(
                f"{self.flag} may have equal keys: expected a primary key or a unique index of the column 'key' alone, "
                "not deferrable"
            )

    def _check_rights(self, rights: Sequence[str]) -> None:
        of_table = "SELECT has_table_privilege(%s::oid, %s)"
        lacking = [right for right in rights if self._row(of_table, self._oid(), right) == (False,)]
        if lacking:
            raise ValueError(f"{self.flag}: this user lacks {' and '.join(lacking)} on it: expected a grant")

    def _oid(self) -> int | None:
        (oid,) = self._row("SELECT to_regclass(%s)::oid", self.identifier.as_string(self._connection)) or (None,)
        return oid

    def _row(self, query: LiteralString, *values: Any) -> tuple[Any, ...] | None:
        """Returns the first row of the answer to a query, or None."""
        return self._connection.execute(query, values).fetchone()
