import contextlib
import dataclasses

import lance
import numpy as np
import pytest
from lance.dataset import DatasetOptimizer

from pipeline.commands.export.lance_dataset import MIN_INDEXED, LanceDataset
from pipeline.commands.export.target import Model, Row
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


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "vectors.lance"


def rows(destination):
    table = lance.dataset(str(destination)).to_table(columns=["key", "sha256", "embedding"])
    found = {row["key"]: (row["sha256"], row["embedding"]) for row in table.to_pylist()}
    assert len(found) == table.num_rows
    return found


def opened(destination, model=MODEL):
    return LanceDataset(str(destination), "cosine", Model(model.digest, DIMENSION))


def block(*numbers, **changes):
    """Returns rows; `changes` are arguments of `embedding`."""
    embeddings = [embedding(number, **changes) for number in numbers]
    return [Row(each.info.ref.key.decode(), each.info, each.vector) for each in embeddings]


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_each_metric_has_an_index_of_its_own(destination, tmp_path, capfd):
    write_run(tmp_path, "r", range(MIN_INDEXED))
    for metric in ("cosine", "ip", "l2"):
        assert export(tmp_path, "lance", "--destination", destination, "--metric", metric) == 0
        out = capfd.readouterr().out
        assert "built in" in out and float(out.split("recall  ")[1].split()[0]) > 0.5


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


@pytest.mark.slow
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


def make_as_an_earlier_version(destination):
    opened(f"{destination}.new").prepare(sends=True, deletes=False)
    empty = lance.dataset(f"{destination}.new").to_table().replace_schema_metadata()
    key = empty.schema.field("key").remove_metadata()
    lance.write_dataset(empty.cast(empty.schema.set(0, key)), str(destination))


def test_a_dataset_of_an_earlier_version_stays_as_it_is_until_rows_change(destination):
    make_as_an_earlier_version(destination)
    versions = []
    for sends in (False, True):
        opened(destination).prepare(sends=sends, deletes=False)
        versions.append(lance.dataset(str(destination)).version)
    assert versions == [1, 2]


@pytest.mark.parametrize("exists", [False, True], ids=["new", "of an earlier version"])
def test_two_exports_at_once_leave_one_row_for_each_key(destination, exists):
    if exists:
        make_as_an_earlier_version(destination)
    first, second = opened(destination), opened(destination)
    for each in (first, second):
        assert list(each.stored()) == []
    for each in (first, second):
        each.prepare(sends=True, deletes=False)
    first.upsert(block(*range(10)))
    second.upsert(block(*range(5, 15)))
    first.upsert(block(*range(10, 20)))
    second.delete([row.key for row in block(0, 12)])
    for each in (first, second):
        each.finish(True, print)
    assert rows(destination) == expected(*(embedding(number) for number in range(1, 20) if number != 12))


def test_rows_that_another_export_has_written_meanwhile_are_indexed(destination):
    first, second = opened(destination), opened(destination)
    for each in (first, second):
        each.prepare(sends=True, deletes=False)
    second.upsert(block(*range(MIN_INDEXED)))
    assert "built in" in first.finish(True, print)[0]


@pytest.mark.slow
def test_two_commands_at_once(destination, tmp_path):
    write_run(tmp_path, "r", range(6_000))
    flags = ("--destination", destination)
    with started(tmp_path, "lance", *flags) as one, started(tmp_path, "lance", *flags) as other:
        said = [process.communicate(timeout=120) for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), said
    assert rows(destination) == expected(*map(embedding, range(6_000)))


def test_keys_with_several_rows_are_found_and_mended(destination, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "lance", "--destination", destination)
    dataset = lance.dataset(str(destination))
    table = dataset.to_table()
    dataset.insert(table.slice(0, 5))
    dataset.insert(table.slice(3, 5))
    write_run(tmp_path, "s", [3], version="2", content="changed")
    capfd.readouterr()
    assert export(tmp_path, "lance", "--destination", destination, "--dry_run") == 0
    assert "0 new and 0 replaced, and 0 would be deleted, 8 with several rows mended" in capfd.readouterr().out
    assert export(tmp_path, "lance", "--destination", destination) == 0
    assert "0 new, 0 replaced, 0 deleted, 8 with several rows mended" in capfd.readouterr().out
    numbers = [*range(3), *range(4, 20)]
    assert rows(destination) == expected(*map(embedding, numbers), embedding(3, "2", "changed"))
    assert export(tmp_path, "lance", "--destination", destination) == 0
    assert "nothing to send" in capfd.readouterr().out


def test_earlier_rows_stay_if_the_new_one_is_left_out(destination, tmp_path, capfd):
    write_run(tmp_path, "r", range(4))
    export(tmp_path, "lance", "--destination", destination)
    dataset = lance.dataset(str(destination))
    dataset.insert(dataset.to_table(filter="key LIKE '% 1.jpg' OR key LIKE '% 3.jpg'"))
    not_finite = dataclasses.replace(embedding(1, version="2"), vector=np.full(DIMENSION, np.nan, np.float32))
    outputs.write_run(tmp_path, [not_finite], run_id="s", model=MODEL)
    capfd.readouterr()
    assert export(tmp_path, "lance", "--destination", destination) == 0
    assert "1 with several rows mended, 1 left out" in capfd.readouterr().out
    keys = lance.dataset(str(destination)).to_table(columns=["key"])["key"].to_pylist()
    assert sorted(keys) == [f"gs://bucket/it's {number}.jpg" for number in (0, 1, 1, 2, 3)]


def test_a_dataset_that_another_model_makes_meanwhile(destination):
    first, second = opened(destination), opened(destination, OTHER)
    assert list(first.stored()) == list(second.stored()) == []
    first.prepare(sends=True, deletes=False)
    for each in (second, opened(destination, OTHER)):
        with pytest.raises(ValueError, match=f"{MODEL.digest}, and --embeddings has those of {OTHER.digest}"):
            each.prepare(sends=True, deletes=False) if each is second else list(each.stored())


def test_small_files_are_joined_again_if_another_export_was_faster(destination, monkeypatch):
    first, second = opened(destination), opened(destination)
    for each in (first, second):
        each.prepare(sends=True, deletes=False)
    first.upsert(block(*range(MIN_INDEXED - 1)))
    first.upsert(block(MIN_INDEXED))
    compact, tries = DatasetOptimizer.compact_files, []

    def preempted(self, **arguments):
        tries.append(None)
        if len(tries) == 1:
            second.upsert(block(3, version="2", content="changed"))
        compact(self, **arguments)

    monkeypatch.setattr(DatasetOptimizer, "compact_files", preempted)
    assert "built in" in first.finish(True, print)[0]
    assert len(tries) == 2
    assert rows(destination)[block(3)[0].key] == expected(embedding(3, "2", "changed"))[block(3)[0].key]


@pytest.mark.parametrize(("said", "count"), [("Commit conflict for version 3", 10), ("No space left on device", 1)])
def test_only_a_conflict_is_worth_another_try_and_there_is_an_end_to_tries(destination, monkeypatch, said, count):
    tries = []

    def fail(self, **arguments):
        tries.append(None)
        raise OSError(said)

    own = opened(destination)
    own.prepare(sends=True, deletes=False)
    own.upsert(block(*range(MIN_INDEXED)))
    monkeypatch.setattr(DatasetOptimizer, "compact_files", fail)
    with pytest.raises(OSError, match=said):
        own.finish(True, print)
    assert len(tries) == count
