"""attempts.name_files: all files of a run get their names in one step, which changes nothing if the run is lost."""

import dataclasses
import json

import apache_beam as beam
import pytest

from pipeline.attempts import attempt
from pipeline.attempts.name_files import NameFiles
from pipeline.flags import options
from tests.helpers.collecting import collect
from tests.helpers.reporting import compose
from transforms.elements.records import Shard
from transforms.encoding import examples
from transforms.models.spec import ModelFields
from transforms.storage import files

pytestmark = pytest.mark.slow

MODEL = ModelFields("a model", "d" * 64, 7)


@pytest.fixture
def own(tmp_path):
    config, _ = options.parse(["--output", str(tmp_path), "--run_id", "r"])
    return attempt.of(config)


def part(tmp_path, kind, name):
    path = tmp_path / kind / "r" / ".parts" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)
    return Shard(str(path), 1)


def name_files(own, model, vectors, failures):
    def build(root):
        report = root | "Report" >> beam.Create([compose(model)])
        parts = [
            root | name >> beam.Create(shards).with_output_types(Shard)
            for name, shards in (("Vectors", vectors), ("Failures", failures))
        ]
        return {"report": report | NameFiles(own, MODEL, *parts, "float32")}

    (report,) = collect(build)[0]["report"]
    assert report.run_id == "r"


def names(tmp_path):
    paths = [path for path in tmp_path.rglob("*") if path.is_file() and ".parts" not in path.parts]
    return sorted(str(path.relative_to(tmp_path)) for path in paths)


def test_all_files_of_a_run(own, model, tmp_path):
    vectors = [part(tmp_path, "embeddings", name) for name in ("b.tfrecord", "a.tfrecord", "x.parquet")]
    failures = [part(tmp_path, "failures", "c.jsonl")]
    for _ in range(2):  # as a step that runs twice does
        name_files(own, model, vectors, failures)
        assert names(tmp_path) == [
            "embeddings/r/part-00000-of-00001.parquet",
            "embeddings/r/part-00000-of-00002.tfrecord",
            "embeddings/r/part-00001-of-00002.tfrecord",
            "failures/r/part-00000-of-00001.jsonl",
            "schema.pbtxt",
        ]
    assert (tmp_path / "embeddings/r/part-00000-of-00002.tfrecord").read_text() == "a.tfrecord"
    assert len(list(tmp_path.glob("*/r/.parts/*"))) == 4  # the parts stay until the report is written


def old_run(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "r.json").write_text(json.dumps({"started_at": "2020-01-01T00:00:00.000+00:00"}))
    for kind, name in (("embeddings", "part-00000-of-00001.tfrecord"), ("failures", "part-00000-of-00001.jsonl")):
        (tmp_path / kind / "r").mkdir(parents=True)
        (tmp_path / kind / "r" / name).write_text("old")


def test_files_and_the_report_of_an_earlier_run_are_replaced(own, model, tmp_path):
    old_run(tmp_path)
    name_files(own, model, [part(tmp_path, "embeddings", "a.tfrecord")], [])
    assert names(tmp_path) == ["embeddings/r/part-00000-of-00001.tfrecord", "schema.pbtxt"]
    assert (tmp_path / "embeddings/r/part-00000-of-00001.tfrecord").read_text() == "a.tfrecord"


@pytest.mark.parametrize(
    ("record_type", "shapes"),
    [("float32", "vectors of 7 dimensions"), ("float16", "vectors of 7 dimensions in float16")],
)
def test_the_schema_says_the_type_of_the_vectors(own, model, tmp_path, record_type, shapes):
    def build(root):
        report = root | "Report" >> beam.Create([compose(model)])
        parts = [root | name >> beam.Create([]).with_output_types(Shard) for name in ("Vectors", "Failures")]
        return {"report": report | NameFiles(own, MODEL, *parts, record_type)}

    collect(build)
    assert examples.shapes((tmp_path / "schema.pbtxt").read_text()) == shapes


def test_a_run_that_another_process_has_taken_over_changes_nothing(own, model, tmp_path):
    old_run(tmp_path)
    claim = tmp_path / "runs" / "r.unfinished"
    claim.write_text(json.dumps({"attempt": "20991231T000000.000Z"}))
    before = names(tmp_path)
    own = dataclasses.replace(own, claim=str(claim))
    with pytest.raises(Exception, match="is not this attempt's any more, so it names no file"):
        name_files(own, model, [part(tmp_path, "embeddings", "a.tfrecord")], [])
    assert names(tmp_path) == before
    assert (tmp_path / "embeddings/r/part-00000-of-00001.tfrecord").read_text() == "old"


@pytest.mark.parametrize(("kind", "suffix"), [("embeddings", "tfrecord"), ("failures", "jsonl")])
def test_an_attempt_that_loses_its_claim_while_it_names_files_removes_none(
    own, model, tmp_path, monkeypatch, kind, suffix
):
    """It is stopped before the first file has its name. Another takes over meanwhile, and completes the run."""
    claim = tmp_path / "runs" / "r.unfinished"
    old_run(tmp_path)
    claim.write_text(json.dumps({"attempt": own.label}))
    own = dataclasses.replace(own, claim=str(claim))
    parts = {"embeddings": [], "failures": [], kind: [part(tmp_path, kind, f"{own.label}-embedded-a.{suffix}")]}
    name = files.name

    def wake_late(path, final):
        other = dataclasses.replace(own, number=2)
        claim.write_text(json.dumps({"attempt": other.label}))
        other.take_over()
        for i in range(2):
            (tmp_path / kind / "r" / f"part-0000{i}-of-00002.{suffix}").write_text("of the other")
        (tmp_path / "runs" / "r.json").write_text("of the other")
        monkeypatch.setattr(files, "name", name)
        name(path, final)

    monkeypatch.setattr(files, "name", wake_late)
    with pytest.raises(Exception, match="is not this attempt's any more, so it names no file|No such file"):
        name_files(own, model, *parts.values())
    for i in range(2):
        assert (tmp_path / kind / "r" / f"part-0000{i}-of-00002.{suffix}").read_text() == "of the other"
    assert (tmp_path / "runs" / "r.json").read_text() == "of the other"
