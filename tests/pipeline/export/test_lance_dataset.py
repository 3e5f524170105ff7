import contextlib

import lance
import pytest

from pipeline.export.lance_dataset import MIN_INDEXED
from tests.exports import DIMENSION, MANY, MODEL, OTHER, embedding, expected, export, started, wait_for, write_run


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "vectors.lance"


def rows(destination):
    table = lance.dataset(str(destination)).to_table(columns=["key", "sha256", "embedding"])
    return {row["key"]: (row["sha256"], row["embedding"]) for row in table.to_pylist()}


def test_rows_without_an_index_if_there_are_few(destination, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    assert export(tmp_path, "lance", "--destination", destination) == 0
    out = capfd.readouterr().out
    assert "20 new, 0 replaced, 0 deleted" in out and "none: 20 rows are searched exactly" in out
    assert rows(destination) == expected(*map(embedding, range(20)))
    (row,) = lance.dataset(str(destination)).to_table(filter="key LIKE '% 7.jpg'").to_pylist()
    facts = {name: row[name] for name in ("version", "format", "height", "width", "size", "model_digest")}
    assert facts == {
        "version": "1", "format": "jpeg", "height": 8, "width": 9, "size": 107, "model_digest": MODEL.digest,
    }  # fmt: skip


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_an_index_with_its_recall(destination, tmp_path, capfd, metric):
    write_run(tmp_path, "r", range(MIN_INDEXED))
    assert export(tmp_path, "lance", "--destination", destination, "--metric", metric) == 0
    out = capfd.readouterr().out
    assert "IVF_SQ" in out and "built in" in out
    assert float(out.split("recall  ")[1].split()[0]) > 0.5  # of random vectors, which have no near neighbours
    write_run(tmp_path, "s", range(MIN_INDEXED, MIN_INDEXED + 100))
    assert export(tmp_path, "lance", "--destination", destination, "--metric", metric) == 0
    assert "brought up to date" in capfd.readouterr().out
    (index,) = lance.dataset(str(destination)).describe_indices()
    assert (index.num_rows_indexed, index.field_names) == (MIN_INDEXED + 100, ["embedding"])


def test_a_second_export_sends_nothing(destination, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "lance", "--destination", destination)
    version = lance.dataset(str(destination)).version
    assert export(tmp_path, "lance", "--destination", destination) == 0
    assert "nothing to send" in capfd.readouterr().out
    assert lance.dataset(str(destination)).version == version


def test_later_runs_add_replace_and_delete(destination, tmp_path, capfd):
    write_run(tmp_path, "first", range(20))
    write_run(tmp_path, "second", range(20, 30))
    export(tmp_path, "lance", "--destination", destination)
    write_run(tmp_path, "third", [3, 40], version="2", content="changed")
    for path in (*tmp_path.glob("embeddings/second/*"), tmp_path / "runs" / "second.json"):
        path.unlink()
    assert export(tmp_path, "lance", "--destination", destination) == 0
    assert "1 new, 1 replaced, 10 deleted" in capfd.readouterr().out
    changed = [embedding(i, "2", "changed") for i in (3, 40)]
    assert rows(destination) == expected(*(embedding(i) for i in range(20)), *changed)


def test_a_dry_run_changes_nothing(destination, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    assert export(tmp_path, "lance", "--destination", destination, "--dry_run") == 0
    assert "would be sent 20 new" in capfd.readouterr().out
    assert not destination.exists()


def test_another_model_is_refused_in_one_line(destination, tmp_path, capfd):
    write_run(tmp_path / "a", "r", range(20))
    write_run(tmp_path / "b", "r", range(20), OTHER)
    export(tmp_path / "a", "lance", "--destination", destination)
    assert export(tmp_path / "b", "lance", "--destination", destination) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert MODEL.digest in line and OTHER.digest in line


def test_a_dataset_of_another_dimension_is_refused(destination, tmp_path, capfd):
    import pyarrow as pa

    write_run(tmp_path, "r", range(20))
    export(tmp_path, "lance", "--destination", destination)
    dataset = lance.dataset(str(destination)).to_table()
    column = pa.array([[0.0] * 3] * 20, pa.list_(pa.float32(), 3))
    lance.write_dataset(dataset.set_column(8, "embedding", column), str(destination), mode="overwrite")
    assert export(tmp_path, "lance", "--destination", destination) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "its column 'embedding' is" in line and "[3]: expected" in line and f"[{DIMENSION}]; choose" in line


def test_a_killed_export_goes_on(destination, tmp_path, capfd):
    write_run(tmp_path, "r", range(MANY))

    def stored():
        with contextlib.suppress(ValueError):  # there is none yet
            return lance.dataset(str(destination)).count_rows()
        return 0

    with started(tmp_path, "lance", "--destination", destination) as process:
        wait_for(lambda: stored() > 0, process)
    before = stored()
    assert before > 0
    assert export(tmp_path, "lance", "--destination", destination) == 0
    out = capfd.readouterr().out
    assert (f"{MANY - before:,} new, 0 replaced, 0 deleted" if before < MANY else "nothing to send") in out
    assert rows(destination) == expected(*map(embedding, range(MANY)))
