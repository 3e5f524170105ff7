import json

import numpy as np
import pytest
from google.cloud import storage

from pipeline.commands.export import vertex_files
from pipeline.commands.export.target import Model, Row
from pipeline.commands.export.vertex_files import VertexFiles
from tests.helpers import cloud_storage, emulators
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
from transforms.storage import contested

SIZED = Model(MODEL.digest, DIMENSION)


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "search"


def batch(destination, number):
    """Returns the vectors and the deleted ids of a batch, of which each id comes once."""
    root = destination / "batches" / f"{number:05d}"
    assert {path.suffix for path in root.iterdir() if path.is_file()} <= {".json"}
    assert {path.name for path in root.iterdir() if path.is_dir()} <= {"delete"}
    lines = [json.loads(line) for path in sorted(root.glob("*.json")) for line in path.read_text().splitlines()]
    deleted = [name for path in sorted(root.glob("delete/*.txt")) for name in path.read_text().splitlines()]
    vectors = {line["id"]: line["embedding"] for line in lines}
    assert len(vectors) == len(lines) and not vectors.keys() & set(deleted)
    return vectors, deleted


def index(destination, directory="batches"):
    """Returns what an index has after all complete batches, in order, with vectors in float32."""
    vectors = {}
    for metadata in sorted(destination.glob("batches/*.json")):
        added, deleted = batch(destination, int(metadata.stem))
        assert json.loads(metadata.read_text())["contentsDeltaUri"] == str(metadata.with_suffix(""))
        assert set(deleted) <= vectors.keys()
        vectors = {key: vector for key, vector in vectors.items() if key not in deleted} | added
    return {key: np.float32(vector).tolist() for key, vector in vectors.items()}


def vectors(*embeddings):
    return {key: vector for key, (_, vector) in expected(*embeddings).items()}


def test_a_batch_and_its_metadata(destination, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    assert export(tmp_path, "vertex", "--destination", destination) == 0
    assert "new is 00001" in capfd.readouterr().out
    assert index(destination) == vectors(*map(embedding, range(20)))
    metadata = json.loads((destination / "batches" / "00001.json").read_text())
    assert metadata["config"] == {
        "dimensions": DIMENSION,
        "approximateNeighborsCount": 150,
        "distanceMeasureType": "DOT_PRODUCT_DISTANCE",
        "featureNormType": "UNIT_L2_NORM",
        "algorithmConfig": {"treeAhConfig": {}},
    }


def test_a_second_export_sends_nothing(destination, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "vertex", "--destination", destination)
    before = sorted(destination.rglob("*"))
    assert export(tmp_path, "vertex", "--destination", destination) == 0
    out = capfd.readouterr().out
    assert "nothing to send" in out and "no new batch" in out
    assert sorted(destination.rglob("*")) == before


def test_later_runs_add_replace_and_delete(destination, tmp_path):
    write_run(tmp_path, "first", range(20))
    write_run(tmp_path, "second", range(20, 30))
    export(tmp_path, "vertex", "--destination", destination)
    write_run(tmp_path, "third", [3, 40], version="2", content="changed")
    for path in (*tmp_path.glob("embeddings/second/*"), tmp_path / "runs" / "second.json"):
        path.unlink()
    assert export(tmp_path, "vertex", "--destination", destination) == 0
    changed = [embedding(i, "2", "changed") for i in (3, 40)]
    added, deleted = batch(destination, 2)
    assert sorted(deleted) == sorted(vectors(*map(embedding, range(20, 30))))
    assert added.keys() == vectors(*changed).keys()
    assert json.loads((destination / "batches" / "00002.json").read_text())["isCompleteOverwrite"] is False
    assert index(destination) == vectors(*(embedding(i) for i in range(20))) | vectors(*changed)
    # An image that comes back is sent again.
    write_run(tmp_path, "fourth", range(20, 30))
    export(tmp_path, "vertex", "--destination", destination)
    assert batch(destination, 3)[0].keys() == vectors(*map(embedding, range(20, 30))).keys()


def test_a_dry_run_changes_nothing(destination, tmp_path, capfd):
    write_run(tmp_path, "r", range(20))
    assert export(tmp_path, "vertex", "--destination", destination, "--dry_run") == 0
    assert "would be sent 20 new" in capfd.readouterr().out
    assert not destination.exists()


def test_another_model_is_refused_in_one_line(destination, tmp_path, capfd):
    write_run(tmp_path / "a", "r", range(20))
    write_run(tmp_path / "b", "r", range(20), OTHER)
    export(tmp_path / "a", "vertex", "--destination", destination)
    assert export(tmp_path / "b", "vertex", "--destination", destination) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert MODEL.digest in line and OTHER.digest in line


def test_another_dimension_is_refused(destination):
    files = VertexFiles(str(destination), "cosine", SIZED)
    files.prepare(sends=True, deletes=True)
    other = VertexFiles(str(destination), "cosine", Model(MODEL.digest, 3))
    with pytest.raises(ValueError, match=f"has vectors of {DIMENSION} dimensions, and --embeddings of 3"):
        list(other.stored())


def row(number):
    each = embedding(number)
    return Row(each.info.ref.key.decode(), each.info, each.vector)


def test_a_batch_has_no_more_files_than_vertex_ai_takes(destination, monkeypatch):
    monkeypatch.setattr(vertex_files, "MAX_FILES", 3)
    files = VertexFiles(str(destination), "cosine", SIZED)
    files.prepare(sends=True, deletes=True)
    files.delete(["gone"])
    for number in range(7):
        files.upsert([row(number)])
    assert "new is 00001 to 00003" in files.finish(True, print)[0]
    counts = [len(list((destination / "batches" / f"{i:05d}").rglob("part-*"))) for i in (1, 2, 3)]
    assert counts == [3, 3, 2]
    assert sorted(path.name for path in destination.glob("batches/*.json")) == [f"0000{i}.json" for i in (1, 2, 3)]


def test_what_a_killed_export_left_without_a_ledger_goes(destination):
    files = VertexFiles(str(destination), "cosine", SIZED)
    files.prepare(sends=True, deletes=True)
    files.delete(["gone"])
    files.upsert([row(0)])
    files.upsert([row(1)])
    root = destination / "batches" / "00001"
    (destination / "ledger" / "00001" / "part-00002.jsonl").unlink()
    (root / f".part-00003.json.{'0' * 32}").write_text("half")
    again = VertexFiles(str(destination), "cosine", SIZED)
    assert [stored.key for stored in again.stored()] == ["gone", row(0).key]
    again.prepare(sends=True, deletes=True)
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()) == [
        "delete/part-00000.txt", "part-00001.json",
    ]  # fmt: skip
    assert (destination / "batches" / "00001.json").exists()
    again.upsert([row(1)])
    again.finish(True, print)
    assert batch(destination, 2)[0].keys() == {row(1).key}


def test_a_batch_without_any_ledger_is_made_anew(destination):
    files = VertexFiles(str(destination), "cosine", SIZED)
    files.prepare(sends=True, deletes=True)
    files.upsert([row(0)])
    (destination / "ledger" / "00001" / "part-00000.jsonl").unlink()
    again = VertexFiles(str(destination), "cosine", SIZED)
    again.prepare(sends=True, deletes=True)
    again.upsert([row(1)])
    again.finish(True, print)
    assert batch(destination, 1)[0].keys() == {row(1).key}


def prepared(destination):
    files = VertexFiles(str(destination), "cosine", SIZED)
    files.prepare(sends=True, deletes=True)
    return files


def test_of_two_exports_at_once_one_goes_on(destination):
    one, other = prepared(destination), prepared(destination)
    one.upsert([row(0)])
    with pytest.raises(contested.Lost, match="another export writes to batch 00001"):
        other.upsert([row(0)])
    one.upsert([row(1)])
    one.finish(True, print)
    assert index(destination) == vectors(embedding(0), embedding(1))


def test_of_two_exports_at_once_into_a_bucket_one_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(emulators.write_credentials(tmp_path)))
    with cloud_storage.paging_server() as url, cloud_storage.clients_of(monkeypatch, url):
        storage.Client().create_bucket("bucket")
        one, other = prepared("gs://bucket/search"), prepared("gs://bucket/search")
        one.upsert([row(0)])
        with pytest.raises(contested.Lost, match="another export writes to batch 00001"):
            other.upsert([row(1)])
        one.upsert([row(1)])
        assert [stored.key for stored in one.stored()] == [row(0).key, row(1).key]


def test_an_export_that_wakes_after_another_has_gone_on_fails(destination):
    late = prepared(destination)
    late.upsert([row(0)])
    before = [path for path in destination.rglob("*") if path.is_file()]
    other = prepared(destination)
    assert [stored.key for stored in other.stored()] == [row(0).key]
    for work in (lambda: late.upsert([row(1)]), lambda: late.delete(["there"])):
        with pytest.raises(contested.Lost):
            work()
    other.upsert([row(1)])
    other.finish(True, print)
    assert index(destination) == vectors(embedding(0), embedding(1))
    assert batch(destination, 1)[0].keys() == {row(0).key}
    assert set(before) < set(destination.rglob("*"))


def test_an_export_that_wakes_between_a_file_and_its_ledger_fails(destination, monkeypatch):
    late = prepared(destination)
    write, others = contested.write, []

    def wakes_late(path, content, state):
        if path.endswith(".jsonl"):
            monkeypatch.undo()
            others.append(prepared(destination))
            others[0].upsert([row(1)])
        return write(path, content, state)

    monkeypatch.setattr(contested, "write", wakes_late)
    with pytest.raises(contested.Lost):
        late.upsert([row(0)])
    others[0].finish(True, print)
    assert index(destination) == vectors(embedding(1))
    assert json.loads((destination / "batches" / "00001.json").read_text())["config"]
    again = prepared(destination)
    assert [stored.key for stored in again.stored()] == [row(1).key]
    again.upsert([row(0)])
    again.finish(True, print)
    assert index(destination) == vectors(embedding(0), embedding(1))


def test_a_directory_that_another_model_makes_meanwhile(destination):
    other = VertexFiles(str(destination), "cosine", Model(OTHER.digest, DIMENSION))
    assert list(other.stored()) == []
    prepared(destination)
    with pytest.raises(ValueError, match=f"{MODEL.digest}, and --embeddings has those of {OTHER.digest}"):
        other.prepare(sends=True, deletes=True)


@pytest.mark.slow
def test_a_killed_export_goes_on(destination, tmp_path):
    write_run(tmp_path, "r", range(MANY))
    with started(tmp_path, "vertex", "--destination", destination) as process:
        wait_for(lambda: any(destination.glob("ledger/*/part-*.jsonl")), process)
    assert export(tmp_path, "vertex", "--destination", destination) == 0
    assert index(destination) == vectors(*map(embedding, range(MANY)))
    sent = sum(len(batch(destination, int(path.stem))[0]) for path in destination.glob("batches/*.json"))
    assert sent == MANY


def test_in_a_bucket(cloud, tmp_path, capfd):
    storage.Client().create_bucket("bucket")
    write_run(tmp_path, "r", range(20))
    for said in ("20 new", "nothing to send"):
        assert export(tmp_path, "vertex", "--destination", "gs://bucket/search") == 0
        assert said in capfd.readouterr().out
    metadata = json.loads((cloud.buckets / "bucket" / "search" / "batches" / "00001.json").read_text())
    assert metadata["contentsDeltaUri"] == "gs://bucket/search/batches/00001"
    assert batch(cloud.buckets / "bucket" / "search", 1)[0].keys() == vectors(*map(embedding, range(20))).keys()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.json", "{}"),
        ("model.json", '{"digest": "d", "dimension"'),
        ("model.json", "[]"),
        ("ledger/00001/part-00000.jsonl", '["a", "b"'),
        ("ledger/00001/part-00000.jsonl", "[1]"),
        ("ledger/00001/part-00000.jsonl", '"ab"'),
        ("ledger/00001/part-00000.jsonl", '["a", 1]'),
    ],
)
def test_a_broken_file_is_named(destination, tmp_path, capfd, name, content):
    write_run(tmp_path, "r", range(20))
    export(tmp_path, "vertex", "--destination", destination)
    (destination / name).write_text(content)
    capfd.readouterr()
    assert export(tmp_path, "vertex", "--destination", destination) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"{destination / name}: broken: expected" in line
