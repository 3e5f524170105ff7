"""pipeline.commands.verify.run_files: which files a run has, and the records in them."""

import dataclasses

from pipeline.commands.verify import schema_file
from pipeline.commands.verify.output_files import OutputFiles
from pipeline.commands.verify.run_files import RunFiles
from tests.helpers import outputs
from tests.helpers.outputs import embedding, failure

PART = "part-00000-of-00001"


def run_of(output, run_id="r"):
    return RunFiles(OutputFiles(str(output)), run_id, schema_file.COLUMNS)


def test_the_files_of_a_run(tmp_path):
    outputs.write_run(tmp_path, [embedding(b"/a", 1)], [failure(b"/x")], flags=["--output_format=tfrecord,parquet"])
    outputs.write_run(tmp_path, [embedding(b"/b", 2)], run_id="r.2")
    run = run_of(tmp_path)
    assert run.vectors == {suffix: [f"embeddings/r/{PART}{suffix}"] for suffix in (".tfrecord", ".parquet")}
    assert run.failures == [f"failures/r/{PART}.jsonl"]
    assert [record.key for record in run.records()] == [b"/a", b"/a"]


def test_the_formats_of_a_run_are_those_of_its_files_and_its_report(tmp_path):
    outputs.write_run(tmp_path, [embedding(b"/a", 1)])
    run = run_of(tmp_path)
    assert run.formats == [".tfrecord"]
    reported = dataclasses.replace(run, report={"output_formats": ["parquet"]})
    assert reported.formats == [".tfrecord", ".parquet"]
    assert run_of(tmp_path, "none").formats == [".tfrecord"]


def test_a_run_with_a_claim_is_not_finished(tmp_path):
    outputs.write_run(tmp_path, [embedding(b"/a", 1)])
    run = dataclasses.replace(run_of(tmp_path), report={"output_formats": []})
    assert run.is_finished and not run_of(tmp_path).is_finished
    (tmp_path / "runs" / "r.unfinished").touch()
    assert not dataclasses.replace(run, output=OutputFiles(str(tmp_path))).is_finished


def test_a_file_that_cannot_be_read_has_one_problem(tmp_path):
    outputs.write_run(tmp_path, [embedding(b"/a", 1)])
    run = run_of(tmp_path)
    (tmp_path / "embeddings" / "r" / f"{PART}.tfrecord").unlink()
    ((place, problem),) = run.read(f"embeddings/r/{PART}.tfrecord")
    assert place == "at byte 0" and problem.startswith("the file cannot be read: ")
