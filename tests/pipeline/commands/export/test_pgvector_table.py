import contextlib
import random
import string
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest
from psycopg import sql

from pipeline.commands.export.pgvector_catalog import CatalogTable
from pipeline.commands.export.pgvector_table import PgvectorTable
from pipeline.commands.export.target import LeftOut, Model, Row
from tests.helpers import outputs
from tests.helpers.exports import (
    DIMENSION,
    MANY,
    MODEL,
    OTHER,
    embedding,
    expected,
    export,
    started,
    wait_for,
    write_run,
)
from transforms.elements.one_line import printable

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


def test_the_recall_is_that_of_the_index_however_small_the_table(connection, tmp_path, capfd, monkeypatch):
    write_run(tmp_path, "r", range(12))
    monkeypatch.setenv("PGOPTIONS", "-c hnsw.ef_search=1")
    assert export(tmp_path, "pgvector") == 0
    assert float(capfd.readouterr().out.split("recall  ")[1].split()[0]) < 0.2


def test_an_index_that_lacks_memory_says_so(connection, tmp_path, capfd, monkeypatch):
    write_run(tmp_path, "r", range(300))
    monkeypatch.setenv("PGOPTIONS", "-c maintenance_work_mem=64kB")
    assert export(tmp_path, "pgvector") == 0
    assert "s; more maintenance_work_mem makes that faster" in capfd.readouterr().out


@pytest.mark.parametrize(
    "table",
    [
        *('odd "name"; DROP TABLE x', "Schema.Images", "%s", "%(a)s.%%", "Schema.a.b.c", "select", "{0}", "a\nb"),
        *("x" * 63, "é" * 31),
    ],
)
def test_names_are_quoted(connection, tmp_path, capfd, table):
    for schema in ("Schema", "%(a)s"):
        connection.execute(
            sql.SQL("DROP SCHEMA IF EXISTS {0} CASCADE; CREATE SCHEMA {0}").format(sql.Identifier(schema))
        )
    write_run(tmp_path, "r", range(20))
    write_run(tmp_path, "s", range(20, 22))
    assert export(tmp_path, "pgvector", "--table", table) == 0
    for path in (*tmp_path.glob("embeddings/s/*"), tmp_path / "runs" / "s.json"):
        path.unlink()
    capfd.readouterr()
    assert export(tmp_path, "pgvector", "--table", table) == 0
    out = capfd.readouterr().out
    assert f"20 vectors in the runs → the table {printable(table)}: 0 new, 0 replaced, 2 deleted" in out
    assert "there already" in out and "recall    1.000" in out
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
        "host=/verysecret password=verysecret",
        "host=/verysecret sslpassword=verysecret",
        "postgresql://postgres:pass@verysecret@nowhere.invalid/postgres",
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
        largest, larger = embedding(0), embedding(1)
        largest.vector[3], larger.vector[3] = 65_504, -65_505
        (left_out,) = table.upsert(
            [Row("largest", largest.info, largest.vector), Row("larger", larger.info, larger.vector)]
        )
    assert left_out == LeftOut("larger", "a component of 65505 is too large for halfvec; use --vector_type vector")
    assert rows(connection).keys() == {"largest"}


def test_a_killed_export_goes_on(connection, tmp_path, capfd):
    write_run(tmp_path, "r", range(MANY))
    write_run(tmp_path / "one", "r", range(1))
    export(tmp_path / "one", "pgvector")
    connection.execute("DROP INDEX image_embeddings_vector_cosine_ops_idx")
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
    connection.execute("DROP INDEX image_embeddings_vector_cosine_ops_idx")
    capfd.readouterr()
    assert export(tmp_path, "pgvector") == 0
    out = capfd.readouterr().out
    assert "nothing to send" in out and "built in" in out and "recall" in out


def test_no_statement_needs_the_same_server_process_twice(connection, monkeypatch):
    """Pools between client and server give each transaction to any of them."""
    connect, opened = psycopg.connect, []
    monkeypatch.setattr(psycopg, "connect", lambda *args, **named: opened.append(connect(*args, **named)) or opened[-1])
    table = PgvectorTable(None, "image_embeddings", "vector", "cosine", SIZED)
    with contextlib.closing(table):
        table.prepare(sends=True, deletes=False)
        for number in range(10):
            table.upsert([row(number)])
        table.search(np.stack([row(0).vector] * 10), 3)
        assert opened[0].execute("SELECT COUNT(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_a_server_that_breaks_off_is_a_failure(connection, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "pgvector")
    connection.execute("ALTER TABLE image_embeddings ADD CHECK (size < 120)")
    write_run(tmp_path, "s", range(20, 30))
    capfd.readouterr()
    assert export(tmp_path, "pgvector") == 1
    (line,) = capfd.readouterr().out.splitlines()
    assert "violates check constraint" in line and line.endswith("the same command goes on")


# Letters at random, which PostgreSQL cannot compress. With 2,692 bytes a row of an index has 2,704, which is its limit.
LONG = "".join(random.Random(0).choices(string.ascii_letters, k=2_693))


def test_a_key_too_long_for_the_index_is_left_out_by_each_export(connection, tmp_path, capfd):
    keys = [LONG, LONG[:-1], "\0null", *(f"{number}.jpg" for number in range(7))]
    outputs.write_run(tmp_path, [outputs.embedding(key.encode(), i) for i, key in enumerate(keys)])
    for said in ("9 new, 0 replaced, 0 deleted, 1 left out", "nothing to send, 1 left out"):
        assert export(tmp_path, "pgvector") == 0
        out = capfd.readouterr().out
        assert f"10 vectors in the runs → the table image_embeddings: {said}" in out
        (line,) = [line for line in out.splitlines() if line.startswith("  left out")]
        assert line.startswith(f"  left out  {LONG[:60]}…{LONG[-60:]}: index row size 2712 exceeds")
        assert rows(connection).keys() == {LONG[:-1], r"\x00null", *keys[3:]}
    assert "recall" not in out


def test_exports_into_one_table_take_turns_by_whichever_name(connection):
    table = PgvectorTable(None, "public.image_embeddings", "vector", "cosine", SIZED)
    with contextlib.closing(table), ThreadPoolExecutor(1) as pool:
        table.prepare(sends=True, deletes=False)
        lock = CatalogTable(connection, "image_embeddings").lock_id()
        for work, after in ((lambda: table.upsert([row(0)]), 1), (lambda: table.delete([row(0).key]), 0)):
            with psycopg.connect("") as other:
                other.execute("SELECT pg_advisory_xact_lock(%s)", [lock])
                done = pool.submit(work)
                wait_for_waiting(connection, "advisory")
                assert count(connection) == 1 - after
                other.rollback()
                done.result(20)
            assert count(connection) == after


def row(number):
    each = embedding(number)
    return Row(each.info.ref.key.decode(), each.info, each.vector)


def wait_for_waiting(connection, event, seconds=0.0):
    """Waits until a session has waited for a lock for some time."""
    query = "SELECT 1 FROM pg_stat_activity WHERE wait_event = %s AND now() - query_start > %s * interval '1 s'"
    deadline = time.monotonic() + 60
    while connection.execute(query, [event, seconds]).fetchone() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextlib.contextmanager
def no_index_yet(connection, tmp_path):
    """Exports without an index, and lets nobody build one until the block calls the function that it gets."""
    write_run(tmp_path, "r", range(300))
    export(tmp_path, "pgvector")
    connection.execute("DROP INDEX image_embeddings_vector_cosine_ops_idx")
    with psycopg.connect("") as other:
        other.execute("UPDATE image_embeddings SET size = size")
        yield other.rollback


def indexes(connection):
    """Returns the names of HNSW indexes."""
    found = connection.execute("SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%hnsw%'").fetchall()
    return [name for (name,) in found]


def test_an_export_that_was_killed_while_the_server_builds_the_index_waits_for_it(connection, tmp_path):
    with no_index_yet(connection, tmp_path) as release:
        with started(tmp_path, "pgvector"):
            wait_for_waiting(connection, "relation")
        with started(tmp_path, "pgvector") as again:
            wait_for_waiting(connection, "advisory")
            release()
            out, _ = again.communicate(timeout=60)
    assert again.returncode == 0
    assert b"HNSW (vector_cosine_ops), built by another export meanwhile" in out and b"recall    1.000" in out
    assert indexes(connection) == ["image_embeddings_vector_cosine_ops_idx"]


@pytest.mark.parametrize("is_own", [False, True], ids=["role", "of one's own"])
def test_a_limit_of_the_role_does_not_stop_an_index(connection, tmp_path, monkeypatch, is_own):
    with no_index_yet(connection, tmp_path) as release, ThreadPoolExecutor(1) as pool:
        connection.execute("ALTER ROLE postgres SET statement_timeout = 300")
        connection.execute("ALTER ROLE postgres SET lock_timeout = 300")
        monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=300" if is_own else "")
        try:
            table = PgvectorTable(None, "image_embeddings", "vector", "cosine", SIZED)
        finally:
            connection.execute("ALTER ROLE postgres RESET ALL")
        said = []
        with contextlib.closing(table):
            done = pool.submit(table.finish, True, said.append)
            if is_own:
                with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
                    done.result(20)
                return
            wait_for_waiting(connection, "relation", seconds=0.7)
            release()
            assert "built in" in done.result(20)[0]
    assert said == ["building the index"]


def test_an_invalid_index_of_its_name_is_named(connection, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "pgvector")
    connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", indexes(connection))
    capfd.readouterr()
    assert export(tmp_path, "pgvector") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "the name 'image_embeddings_vector_cosine_ops_idx' of its own is taken" in line and "DROP INDEX" in line
    connection.execute("DROP INDEX image_embeddings_vector_cosine_ops_idx")
    assert export(tmp_path, "pgvector") == 0


@pytest.mark.parametrize("is_same", [True, False], ids=["of the same vectors", "of others"])
def test_a_table_that_another_export_makes_meanwhile(connection, is_same):
    connection.execute("CREATE EXTENSION vector")
    table = PgvectorTable(None, "image_embeddings", "vector", "cosine", SIZED)
    other_model = SIZED if is_same else Model(MODEL.digest, DIMENSION + 1)
    other = PgvectorTable(None, "image_embeddings", "vector", "cosine", other_model)
    with contextlib.closing(table), contextlib.closing(other), ThreadPoolExecutor(1) as pool:
        with psycopg.connect("") as session:
            # A relation's name is taken before it can be seen.
            session.execute("CREATE TABLE image_embeddings (key text)")
            done = pool.submit(table.prepare, True, False)
            wait_for_waiting(connection, "transactionid")
            session.execute("DROP TABLE image_embeddings")
            columns = ", ".join(f"{name} text NOT NULL" for name in ("sha256", "version", "format"))
            session.execute(
                f"CREATE TABLE image_embeddings (key text PRIMARY KEY, {columns}, height integer, width integer, "
                f"size bigint, model_digest text, embedding vector({other_model.dimension}))"
            )
            session.commit()
        if is_same:
            done.result(20)
            assert table.upsert([row(0)]) == []
        else:
            with pytest.raises(ValueError, match=f"is vector\\({DIMENSION + 1}\\): expected vector"):
                done.result(20)


def test_a_table_that_another_model_fills_meanwhile(connection):
    table = PgvectorTable(None, "image_embeddings", "vector", "cosine", SIZED)
    other = PgvectorTable(None, "image_embeddings", "vector", "cosine", Model(OTHER.digest, DIMENSION))
    with contextlib.closing(table), contextlib.closing(other):
        for each in (table, other):
            assert list(each.stored()) == []
            each.prepare(sends=True, deletes=True)
        table.upsert([row(0)])
        for work in (lambda: other.upsert([row(1)]), lambda: other.delete([row(0).key])):
            with pytest.raises(ValueError, match=f"{MODEL.digest}, and --embeddings has those of {OTHER.digest}"):
                work()
    assert rows(connection).keys() == {row(0).key}


def test_a_trigger_that_keeps_rows_away_is_no_success(connection, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "pgvector")
    connection.execute(
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER away BEFORE INSERT ON image_embeddings FOR EACH ROW WHEN (NEW.size = 121) "
        "EXECUTE FUNCTION nothing()"
    )
    write_run(tmp_path, "s", range(20, 30))
    capfd.readouterr()
    assert export(tmp_path, "pgvector") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "--table 'image_embeddings' took 9 of 10 rows: expected all" in line
    assert count(connection) == 20


def test_a_server_that_goes_away_is_a_failure_in_one_line(connection, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "pgvector")
    write_run(tmp_path, "s", range(20, 30))
    capfd.readouterr()

    def terminate():
        wait_for_waiting(connection, "advisory")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'advisory'")

    with psycopg.connect("") as other, ThreadPoolExecutor(1) as pool:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [CatalogTable(other, "image_embeddings").lock_id()])
        done = pool.submit(terminate)
        assert export(tmp_path, "pgvector") == 1
        done.result(20)
    shown = capfd.readouterr()
    (line,) = shown.out.splitlines()
    assert "terminating connection" in line and line.endswith("the same command goes on")
    assert shown.err == "" and count(connection) == 20
