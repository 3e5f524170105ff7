"""pipeline.commands.export.pgvector_catalog: what a table lacks is said before anything is sent, in one line."""

import pytest

from pipeline.commands.export.pgvector_catalog import CatalogTable
from tests.helpers.exports import export, write_run


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE VIEW other AS SELECT * FROM image_embeddings", "is a view: expected a table"),
        ("CREATE TABLE other (LIKE image_embeddings)", "may have equal keys: expected a primary key or a unique index"),
        (
            "CREATE TABLE other (LIKE image_embeddings, PRIMARY KEY (key, version))",
            "may have equal keys: expected a primary key or a unique index",
        ),
        (
            "CREATE TABLE other (LIKE image_embeddings, UNIQUE (key) DEFERRABLE)",
            "may have equal keys: expected a primary key or a unique index",
        ),
        (
            "CREATE TABLE other (LIKE image_embeddings); CREATE UNIQUE INDEX ON other (key) WHERE size > 0",
            "may have equal keys: expected a primary key or a unique index",
        ),
        (
            "CREATE TABLE other (LIKE image_embeddings, note text NOT NULL, PRIMARY KEY (key))",
            "its column 'note' needs a value: expected a default, or that it may be null",
        ),
    ],
    ids=["view", "no key", "key of two columns", "deferrable", "part of the rows", "column without default"],
)
@pytest.mark.parametrize("flags", [[], ["--dry_run"]], ids=["export", "dry run"])
def test_a_table_that_can_take_no_rows_is_refused(connection, tmp_path, capfd, statement, message, flags):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "pgvector")
    connection.execute(statement)
    capfd.readouterr()
    assert export(tmp_path, "pgvector", "--table", "other", *flags) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("export: --table 'other'") and message in line


def test_a_missing_schema_is_refused(connection, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    assert export(tmp_path, "pgvector", "--table", "nos.tab") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "--table 'nos.tab': there is no schema 'nos': expected one that exists" in line


def test_a_search_path_without_schemas_is_refused(connection, tmp_path, capfd, monkeypatch):
    write_run(tmp_path, "r", range(20))
    monkeypatch.setenv("PGOPTIONS", "-c search_path=nowhere")
    assert export(tmp_path, "pgvector") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "no schema in search_path exists for this user: expected --table SCHEMA.NAME" in line


def test_a_type_out_of_sight_is_refused(connection, tmp_path, capfd):
    connection.execute("CREATE SCHEMA extensions")
    try:
        connection.execute("CREATE EXTENSION vector SCHEMA extensions")
        write_run(tmp_path, "r", range(20))
        assert export(tmp_path, "pgvector") == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert "in the schema 'extensions': expected this schema in search_path" in line
    finally:
        connection.execute("DROP SCHEMA extensions CASCADE")


@pytest.fixture
def limited(connection, monkeypatch):
    """A role without rights; a function that makes it the role of all further exports."""
    connection.execute("CREATE ROLE limited LOGIN PASSWORD 'swordfish'")
    try:
        yield lambda: monkeypatch.setenv("PGUSER", "limited")
    finally:
        connection.execute("DROP OWNED BY limited")
        connection.execute("DROP ROLE limited")


def refusal(tmp_path, capfd):
    """Returns the line with which an export is refused."""
    capfd.readouterr()
    assert export(tmp_path, "pgvector") == 2
    (line,) = capfd.readouterr().err.splitlines()
    return line


def test_a_reader_may_export_what_is_up_to_date(connection, limited, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "pgvector")
    connection.execute("GRANT USAGE ON SCHEMA public TO limited")
    limited()
    assert "SELECT" in refusal(tmp_path, capfd)
    connection.execute("GRANT SELECT ON image_embeddings TO limited")
    assert export(tmp_path, "pgvector") == 0
    assert "nothing to send" in capfd.readouterr().out


def count(connection):
    return connection.execute("SELECT COUNT(*) FROM image_embeddings").fetchone()[0]


def test_a_writer_needs_the_rights_for_what_is_sent(connection, limited, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "pgvector")
    connection.execute("GRANT USAGE ON SCHEMA public TO limited")
    connection.execute("GRANT SELECT ON image_embeddings TO limited")
    limited()
    write_run(tmp_path, "s", [20])
    assert "--table 'image_embeddings': this user lacks INSERT and UPDATE" in refusal(tmp_path, capfd)
    connection.execute("GRANT INSERT, UPDATE ON image_embeddings TO limited")
    connection.execute("REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC")
    try:
        assert "this user lacks TEMPORARY on the database" in refusal(tmp_path, capfd)
    finally:
        connection.execute("GRANT TEMPORARY ON DATABASE postgres TO PUBLIC")
    assert export(tmp_path, "pgvector") == 0
    assert count(connection) == 21
    for path in (*tmp_path.glob("embeddings/s/*"), tmp_path / "runs" / "s.json"):
        path.unlink()
    assert "this user lacks DELETE" in refusal(tmp_path, capfd)
    connection.execute("GRANT DELETE ON image_embeddings TO limited")
    assert export(tmp_path, "pgvector") == 0
    assert count(connection) == 20


def test_an_index_that_only_the_owner_may_build(connection, limited, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "pgvector")
    connection.execute("GRANT USAGE ON SCHEMA public TO limited")
    connection.execute("GRANT SELECT, INSERT, UPDATE ON image_embeddings TO limited")
    connection.execute("DROP INDEX image_embeddings_vector_cosine_ops_idx")
    limited()
    write_run(tmp_path, "s", [20])
    assert "has no index HNSW (vector_cosine_ops), and this user may build none" in refusal(tmp_path, capfd)
    assert count(connection) == 20


def test_a_schema_in_which_no_table_may_be_made(connection, limited, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    limited()
    assert "no schema in search_path" in refusal(tmp_path, capfd)
    connection.execute("GRANT USAGE ON SCHEMA public TO limited")
    assert "this user lacks CREATE on the schema 'public'" in refusal(tmp_path, capfd)


def test_a_server_that_takes_no_changes(connection, tmp_path, capfd, monkeypatch):
    write_run(tmp_path, "r", range(20))
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    assert "the server takes no changes" in refusal(tmp_path, capfd)
    monkeypatch.delenv("PGOPTIONS")
    export(tmp_path, "pgvector")
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    assert export(tmp_path, "pgvector") == 0
    write_run(tmp_path, "s", [20])
    assert "the server takes no changes" in refusal(tmp_path, capfd)
    monkeypatch.delenv("PGOPTIONS")
    connection.execute("DROP INDEX image_embeddings_vector_cosine_ops_idx")
    (tmp_path / "runs" / "s.json").unlink()
    for path in tmp_path.glob("embeddings/s/*"):
        path.unlink()
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    assert "the server takes no changes" in refusal(tmp_path, capfd)


def test_rows_that_this_user_does_not_see(connection, limited, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "pgvector")
    connection.execute("GRANT USAGE ON SCHEMA public TO limited")
    connection.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON image_embeddings TO limited")
    connection.execute("ALTER TABLE image_embeddings ENABLE ROW LEVEL SECURITY")
    assert export(tmp_path, "pgvector") == 0  # its owner
    limited()
    assert "--table 'image_embeddings' has row security, which hides rows from this user" in refusal(tmp_path, capfd)


@pytest.mark.parametrize(
    ("definition", "counts"),
    [
        ("(embedding vector_cosine_ops)", True),
        ("(embedding vector_l2_ops)", False),
        ("(embedding vector_cosine_ops) WHERE size > 100", False),
        ("((subvector(embedding, 1, 8)::vector(8)) vector_cosine_ops)", False),
        ("(other vector_cosine_ops)", False),
    ],
)
def test_which_index_counts(connection, definition, counts):
    connection.execute("CREATE EXTENSION vector")
    connection.execute("CREATE TABLE t (size int, embedding vector(16), other vector(16))")
    connection.execute(f"CREATE INDEX ON t USING hnsw {definition}")
    assert CatalogTable(connection, "t").has_index("embedding", "vector_cosine_ops") is counts


def test_a_name_of_an_index_is_never_cut(connection):
    names = [CatalogTable(connection, f"s.{table}").index_name("vector_ip_ops") for table in ("a", "é" * 31, "e" * 62)]
    assert names[0] == "a_vector_ip_ops_idx" and len(set(names)) == 3
    assert all(len(name.encode()) <= 63 and name.endswith("_vector_ip_ops_idx") for name in names)
