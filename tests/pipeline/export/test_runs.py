import os
from pathlib import Path

import pytest

from pipeline.export import runs
from pipeline.export.target import Model, Place
from tests.exports import DIMENSION, MODEL, OTHER, embedding, write_run

SIZED = Model(MODEL.digest, DIMENSION)


def run_ids(paths):
    return [Path(path).parent.name for path in paths]


def test_runs_come_in_the_order_in_which_they_began(tmp_path):
    """The files of a copied output are all new."""
    for run_id in ("z-first", "a-second", "m-third"):
        write_run(tmp_path, run_id, range(2))
    for path in tmp_path.glob("embeddings/m-third/*"):
        os.utime(path, (0, 0))
    assert run_ids(runs.paths(str(tmp_path))) == ["z-first", "a-second", "m-third"]


@pytest.mark.parametrize("report", [None, b"not JSON", b"[]", b'{"started_at": "yesterday"}'])
def test_without_a_usable_report_the_time_of_the_file_counts(tmp_path, report):
    for number, run_id in enumerate(("b", "c", "a")):
        write_run(tmp_path, run_id, range(2))
        path = tmp_path / "runs" / f"{run_id}.json"
        path.write_bytes(report) if report is not None else path.unlink()
        for shard in tmp_path.glob(f"embeddings/{run_id}/*"):
            os.utime(shard, (number, number))
    assert run_ids(runs.paths(str(tmp_path))) == ["b", "c", "a"]


def test_the_directory_of_one_run_may_be_given(tmp_path):
    write_run(tmp_path, "a", range(2))
    write_run(tmp_path, "b", range(2))
    assert run_ids(runs.paths(str(tmp_path / "embeddings" / "b"))) == ["b"]


def test_unfinished_files_are_left_out(tmp_path):
    write_run(tmp_path, "a", range(2))
    (shard,) = tmp_path.glob("embeddings/a/*")
    unfinished = shard.parent / ".parts" / shard.name
    unfinished.parent.mkdir()
    unfinished.write_bytes(b"")
    assert runs.paths(str(tmp_path)) == [str(shard)]


def test_a_directory_without_vectors_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected at least one"):
        runs.paths(str(tmp_path))


def test_a_broken_file_is_named(tmp_path):
    write_run(tmp_path, "a", range(2))
    (path,) = runs.paths(str(tmp_path))
    Path(path).write_bytes(Path(path).read_bytes()[:-5])
    with pytest.raises(ValueError, match=f"{path}: .*move it away"):
        list(runs.identities(path))


def test_rows_of_several_files(tmp_path):
    write_run(tmp_path, "a", range(3))
    write_run(tmp_path, "b", range(3, 5))
    shards = runs.paths(str(tmp_path))
    places = [
        Place(f"key {file} {place}", file, place)
        for file, path in enumerate(shards)
        for place, _ in runs.identities(path)
    ]
    rows = list(runs.rows(shards, places[1:], SIZED))
    assert [row.info for row in rows] == [embedding(i).info for i in range(1, 5)]
    assert [row.key for row in rows] == [place.key for place in places[1:]]
    assert [row.vector.tolist() for row in rows] == [embedding(i).vector.tolist() for i in range(1, 5)]


def test_a_file_that_was_replaced_is_an_error(tmp_path):
    write_run(tmp_path, "a", range(3))
    shards = runs.paths(str(tmp_path))
    write_run(tmp_path, "a", range(3), OTHER)
    with pytest.raises(ValueError, match="was the file replaced meanwhile"):
        list(runs.rows(shards, [Place("key", 0, 0)], SIZED))


def test_the_dimension_is_that_of_a_vector(tmp_path):
    write_run(tmp_path, "a", range(3))
    (path,) = runs.paths(str(tmp_path))
    assert runs.dimension(path, 0) == DIMENSION
    with pytest.raises(ValueError, match=path):
        runs.dimension(path, 1)
