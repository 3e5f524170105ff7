import contextlib

import numpy as np
import psycopg
import pytest
from psycopg import sql

from pipeline.export.pgvector_table import PgvectorTable
from pipeline.export.target import Model, Row
from tests.exports import DIMENSION, MANY, MODEL, OTHER, embedding, expected, export, started, wait_for, write_run

SIZED = Model(MODEL.digest, DIMENSION)


def rows(connection, table="image_embeddings"):
    """Returns key → (SHA-256, vector)."""
    query = sql.SQL("SELECT key, sha256, embedding::real[] FROM {}").format(sql.Identifier(*table.split(".", 1)))
    return {key: (sha256, np.float32(vector).tolist()) for key, sha256, vector in connection.execute(query)}


def count(connection):
    with contextlib.suppress(psycopg.errors.UndefinedTable):
        return connection.execute("SELECT COUNT(*) FROM image_embeddings").fetchone()[0]
    return 0


def test_rows_and_an_index_with_its_recall(connection, tmp_path, capfd):
    write_run(tmp_path, "r", range(300))
    assert export(tmp_path, "pgvector") == 0
    out = capfd.readouterr().out
    assert "image_embeddings: 300 new, 0 replaced, 0 deleted" in out
    assert "HNSW (vector_cosine_ops), built in" in out
    assert "recall    1.000 at 10, of 100 queries" in out
    assert rows(connection) == expected(*map(embedding, range(300)))
    facts = connection.execute(
        "SELECT version, format, height, width, size, model_digest FROM image_embeddings WHERE key LIKE '%% 7.jpg'"
    ).fetchall()
    assert facts == [("1", "jpeg", 8, 9, 107, MODEL.digest)]


def test_a_second_export_sends_nothing(connection, tmp_path, capfd):
    write_run(tmp_path, "r", range(300))
    export(tmp_path, "pgvector")
    before = connection.execute("SELECT key, xmin::text FROM image_embeddings ORDER BY key").fetchall()
    capfd.readouterr()
    assert export(tmp_path, "pgvector") == 0
    out = capfd.readouterr().out
    assert "nothing to send" in out and "there already" in out and "recall" not in out
    assert connection.execute("SELECT key, xmin::text FROM image_embeddings ORDER BY key").fetchall() == before


def test_later_runs_add_replace_and_delete(connection, tmp_path, capfd):
    write_run(tmp_path, "first", range(20))
    write_run(tmp_path, "second", range(20, 30))
    export(tmp_path, "pgvector")
    write_run(tmp_path, "third", [3, 40], version="2", content="changed")
    for path in (*tmp_path.glob("embeddings/second/*"), tmp_path / "runs" / "second.json"):
        path.unlink()
    capfd.readouterr()
    assert export(tmp_path, "pgvector") == 0
    assert "1 new, 1 replaced, 10 deleted" in capfd.readouterr().out
    changed = [embedding(i, "2", "changed") for i in (3, 40)]
    assert rows(connection) == expected(*(embedding(i) for i in range(20)), *changed)


def test_a_dry_run_changes_nothing(connection, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    assert export(tmp_path, "pgvector", "--dry_run") == 0
    assert "would be sent 20 new and 0 replaced, and 0 would be deleted" in capfd.readouterr().out
    assert connection.execute("SELECT to_regclass('image_embeddings')").fetchone() == (None,)
    assert connection.execute("SELECT COUNT(*) FROM pg_extension WHERE extname = 'vector'").fetchone() == (0,)


def test_half_vectors(connection, tmp_path, capfd):
    write_run(tmp_path, "r", range(300))
    assert export(tmp_path, "pgvector", "--vector_type", "halfvec") == 0
    out = capfd.readouterr().out
    assert "HNSW (halfvec_cosine_ops)" in out
    assert float(out.split("recall  ")[1].split()[0]) > 0.95  # float16 exchanges some neighbours of random vectors
    stored = rows(connection)
    for key, (sha256, vector) in expected(*map(embedding, range(300))).items():
        assert stored[key] == (sha256, np.float32(vector).astype(np.float16).astype(np.float32).tolist())


@pytest.mark.parametrize(("metric", "opclass"), [("l2", "vector_l2_ops"), ("ip", "vector_ip_ops")])
def test_the_index_is_for_the_metric(connection, tmp_path, capfd, metric, opclass):
    write_run(tmp_path, "r", range(300))
    export(tmp_path, "pgvector")
    assert export(tmp_path, "pgvector", "--metric", metric) == 0
    out = capfd.readouterr().out
    assert f"HNSW ({opclass}), built" in out
    assert float(out.rpartition("recall  ")[2].split()[0]) > 0.95
    definitions = connection.execute("SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%hnsw%'").fetchall()
    assert sorted(definition.partition("(embedding ")[2] for (definition,) in definitions) == [
        "vector_cosine_ops)", f"{opclass})",
    ]  # fmt: skip


def test_an_index_that_lacks_memory_says_so(connection, tmp_path, capfd, monkeypatch):
    write_run(tmp_path, "r", range(300))
    monkeypatch.setenv("PGOPTIONS", "-c maintenance_work_mem=64kB")
    assert export(tmp_path, "pgvector") == 0
    assert "s; more maintenance_work_mem makes that faster" in capfd.readouterr().out


@pytest.mark.parametrize("table", ['odd "name"; DROP TABLE x', "Schema.Images"], ids=["quotes", "schema"])
def test_names_are_quoted(connection, tmp_path, table):
    connection.execute('CREATE SCHEMA IF NOT EXISTS "Schema"')
    connection.execute('DROP TABLE IF EXISTS "Schema"."Images"')
    write_run(tmp_path, "r", range(20))
    for _ in range(2):
        assert export(tmp_path, "pgvector", "--table", table) == 0
    assert rows(connection, table) == expected(*map(embedding, range(20)))


def test_columns_of_ones_own_stay(connection, tmp_path):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "pgvector")
    connection.execute("ALTER TABLE image_embeddings ADD COLUMN note text NOT NULL DEFAULT 'none'")
    connection.execute("UPDATE image_embeddings SET note = 'mine'")
    write_run(tmp_path, "s", [3, 40], version="2")
    assert export(tmp_path, "pgvector") == 0
    notes = connection.execute("SELECT note, COUNT(*) FROM image_embeddings GROUP BY note ORDER BY note").fetchall()
    assert notes == [("mine", 20), ("none", 1)]


def test_another_model_is_refused_in_one_line(connection, tmp_path, capfd):
    write_run(tmp_path / "a", "r", range(20))
    write_run(tmp_path / "b", "r", range(20), OTHER)
    export(tmp_path / "a", "pgvector")
    capfd.readouterr()
    assert export(tmp_path / "b", "pgvector") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "--table 'image_embeddings'" in line and MODEL.digest in line and OTHER.digest in line
    assert rows(connection) == expected(*map(embedding, range(20)))


def test_a_table_of_another_type_is_refused(connection, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "pgvector")
    assert export(tmp_path, "pgvector", "--vector_type", "halfvec") == 2
    assert f"'embedding' is vector({DIMENSION}): expected halfvec({DIMENSION})" in capfd.readouterr().err
    connection.execute("CREATE TABLE other (key text PRIMARY KEY)")
    assert export(tmp_path, "pgvector", "--table", "other") == 2
    assert "its column 'sha256' is missing: expected text" in capfd.readouterr().err


@pytest.mark.parametrize("index", ["PRIMARY KEY (key)", "UNIQUE (key)", "UNIQUE (key) INCLUDE (sha256)"])
def test_a_table_of_ones_own_is_taken(connection, tmp_path, index):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "pgvector")
    connection.execute(
        sql.SQL("CREATE TABLE other (id int GENERATED ALWAYS AS IDENTITY, LIKE image_embeddings, {})").format(
            sql.SQL(index)
        )
    )
    assert export(tmp_path, "pgvector", "--table", "other") == 0
    assert rows(connection, "other") == expected(*map(embedding, range(20)))


@pytest.mark.parametrize(("vector_type", "dimension"), [("vector", 2_001), ("halfvec", 4_001)])
def test_vectors_that_no_index_takes_are_refused(postgres, vector_type, dimension):
    with pytest.raises(ValueError, match=f"{dimension} dimensions: expected at most {dimension - 1}"):
        PgvectorTable(None, "t", vector_type, "cosine", Model(MODEL.digest, dimension))


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://postgres:verysecret@nowhere.invalid/postgres",
        "postgresql//postgres:verysecret@nowhere",
        "host=/nowhere password=verysecret",
        "host=/nowhere pass word=verysecret",
    ],
)
def test_the_password_is_never_shown(postgres, tmp_path, capfd, dsn):
    write_run(tmp_path, "r", range(20))
    assert export(tmp_path, "pgvector", "--dsn", dsn, "--verbose") == 2
    shown = capfd.readouterr()
    assert shown.err.startswith("Traceback") and "export: " in shown.err.splitlines()[-1]
    assert "verysecret" not in shown.out + shown.err


def test_a_wrong_password_is_one_line(postgres, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    dsn = f"host={postgres['PGHOST']} user=postgres password=verysecret"
    assert export(tmp_path, "pgvector", "--dsn", dsn) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "password authentication failed" in line and "verysecret" not in line


def test_a_component_too_large_for_halfvec_is_named(connection, tmp_path):
    write_run(tmp_path, "r", range(2))
    table = PgvectorTable(None, "image_embeddings", "halfvec", "cosine", SIZED)
    with contextlib.closing(table):
        table.prepare(sends=True, deletes=False)
        each = embedding(0)
        each.vector[3] = 1e6
        with pytest.raises(ValueError, match="'key': a component of 1e\\+06 is too large for halfvec"):
            table.upsert([Row("key", each.info, each.vector)])
    assert count(connection) == 0


def test_a_killed_export_goes_on(connection, tmp_path, capfd):
    write_run(tmp_path, "r", range(MANY))
    write_run(tmp_path / "one", "r", range(1))
    export(tmp_path / "one", "pgvector")
    connection.execute("DROP INDEX image_embeddings_embedding_idx")
    # A row that another session has inserted, and not committed, stops the last block, which has the same key.
    late = embedding(MANY - 1).info.ref.key.decode()
    insert = """
        INSERT INTO image_embeddings SELECT %s, sha256, version, format, height, width, size, model_digest, embedding
        FROM image_embeddings
    """
    with psycopg.connect("") as other, started(tmp_path, "pgvector") as process:
        other.execute(insert, [late])
        wait_for(lambda: count(connection) == 10_001, process)
        process.kill()
        process.wait()
        other.rollback()
    assert count(connection) == 10_001
    capfd.readouterr()
    assert export(tmp_path, "pgvector") == 0
    out = capfd.readouterr().out
    assert "1,999 new, 0 replaced, 0 deleted" in out and "built in" in out
    assert rows(connection) == expected(*map(embedding, range(MANY)))


def test_an_export_that_was_killed_before_its_index_builds_it(connection, tmp_path, capfd):
    write_run(tmp_path, "r", range(300))
    export(tmp_path, "pgvector")
    connection.execute("DROP INDEX image_embeddings_embedding_idx")
    capfd.readouterr()
    assert export(tmp_path, "pgvector") == 0
    out = capfd.readouterr().out
    assert "nothing to send" in out and "built in" in out and "recall" in out


def test_a_server_that_breaks_off_is_a_failure(connection, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "pgvector")
    connection.execute("ALTER TABLE image_embeddings ADD CHECK (size < 120)")
    write_run(tmp_path, "s", range(20, 30))
    capfd.readouterr()
    assert export(tmp_path, "pgvector") == 1
    (line,) = capfd.readouterr().out.splitlines()
    assert "violates check constraint" in line and line.endswith("the same command goes on")
