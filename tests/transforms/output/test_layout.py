"""Paths below an output."""

import pytest

from transforms.output import layout


def test_places():
    of_run = "gs://b/out", "r"
    assert layout.vectors(*of_run) == "gs://b/out/embeddings/r" and layout.failures(*of_run) == "gs://b/out/failures/r"
    assert layout.report(*of_run) == "gs://b/out/runs/r.json" and layout.page(*of_run) == "gs://b/out/runs/r.html"
    assert layout.statistics(*of_run) == "gs://b/out/runs/r.statistics"
    assert layout.claim(*of_run) == "gs://b/out/runs/r.unfinished" and layout.runs("gs://b/out") == "gs://b/out/runs"
    assert layout.schema("gs://b/out") == "gs://b/out/schema.pbtxt"
    assert layout.parts(layout.vectors(*of_run)) == "gs://b/out/embeddings/r/.parts"
    assert layout.VECTOR_SUFFIXES == (".tfrecord", ".parquet")


def test_paths_are_relative_without_an_output():
    assert layout.page("", "r") == "runs/r.html" and layout.schema("") == "schema.pbtxt"


def test_names_and_patterns_of_files():
    assert layout.shard("d", 3, 7, ".jsonl") == "d/part-00003-of-00007.jsonl"
    assert layout.shards("d") == "d/part-*" and layout.shards("d", ".jsonl") == "d/part-*.jsonl"
    assert layout.report("out", "*") == "out/runs/*.json"


@pytest.mark.parametrize("run_id", ["r", "night.2", "a.json"])
def test_the_run_of_a_path(run_id):
    for path in (layout.report, layout.page, layout.statistics, layout.claim):
        assert layout.run_id(path("gs://b/out", run_id)) == run_id
    assert layout.run_of_vectors(layout.vectors("gs://b/out", run_id)) == ("gs://b/out", run_id)


def test_vectors_elsewhere_are_of_no_run():
    for directory in ("somewhere/r", "/embeddings/r", "out/embeddings/r/copy"):
        assert layout.run_of_vectors(directory) == ("", "")


def test_the_run_of_a_hidden_file():
    tail = "0123456789abcdef" * 2
    for suffix in ("json", "html", "statistics"):
        assert layout.run_being_written(f".night.2.{suffix}.{tail}") == "night.2"
    for name in (f"r.json.{tail}", f".r.unfinished.{tail}", f".r.json.{tail}0", ".r.json"):
        assert layout.run_being_written(name) is None
