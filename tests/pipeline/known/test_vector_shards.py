"""Which files of vectors a directory has, in the order of their runs."""

import os
from pathlib import Path

import pytest

from pipeline.known import vector_shards
from tests.helpers import outputs
from tests.helpers.exports import write_run
from tests.helpers.outputs import embedding


def run_ids(paths):
    return [Path(path).parent.name for path in paths]


def test_runs_come_in_the_order_in_which_they_began(tmp_path):
    """The files of a copied output are all new."""
    for run_id in ("z-first", "a-second", "m-third"):
        write_run(tmp_path, run_id, range(2))
    for path in tmp_path.glob("embeddings/m-third/*"):
        os.utime(path, (0, 0))
    assert run_ids(vector_shards.paths(str(tmp_path))) == ["z-first", "a-second", "m-third"]


@pytest.mark.parametrize("report", [None, b"not JSON", b"[]", b'{"started_at": "yesterday"}'])
def test_without_a_usable_report_the_time_of_the_file_counts(tmp_path, report):
    for number, run_id in enumerate(("b", "c", "a")):
        write_run(tmp_path, run_id, range(2))
        path = tmp_path / "runs" / f"{run_id}.json"
        path.write_bytes(report) if report is not None else path.unlink()
        for shard in tmp_path.glob(f"embeddings/{run_id}/*"):
            os.utime(shard, (number, number))
    assert run_ids(vector_shards.paths(str(tmp_path))) == ["b", "c", "a"]


def test_the_directory_of_one_run_may_be_given(tmp_path):
    write_run(tmp_path, "a", range(2))
    write_run(tmp_path, "b", range(2))
    assert run_ids(vector_shards.paths(str(tmp_path / "embeddings" / "b"))) == ["b"]


def test_the_last_record_of_a_key_tells_whether_it_was_a_file(tmp_path):
    outputs.write_run(tmp_path, [embedding(b"a", 1, in_shard=b"s"), embedding(b"b", 2), embedding(b"c", 3)], run_id="1")
    outputs.write_run(tmp_path, [embedding(b"a", 1), embedding(b"b", 2, in_shard=b"s")], run_id="2")
    shards = vector_shards.paths(str(tmp_path))
    assert vector_shards.files_among(shards, outputs.MODEL.digest, {b"a", b"b", b"none"}) == {b"a"}


def test_unfinished_files_are_left_out(tmp_path):
    write_run(tmp_path, "a", range(2))
    (shard,) = tmp_path.glob("embeddings/a/*")
    unfinished = shard.parent / ".parts" / shard.name
    unfinished.parent.mkdir()
    unfinished.write_bytes(b"")
    assert vector_shards.paths(str(tmp_path)) == [str(shard)]


def test_a_directory_without_vectors_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected at least one"):
        vector_shards.paths(str(tmp_path))
