"""pipeline.commands.verify.run_files: names, records and failures of one run, against its report."""

import io
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.commands.verify import record_file, schema_file
from pipeline.commands.verify.findings import Findings
from pipeline.commands.verify.identities import ContentVectors
from pipeline.commands.verify.run_files import RunFiles
from pipeline.commands.verify.stored import Stored
from pipeline.report import run_report
from tests.helpers import outputs
from tests.helpers.outputs import embedding, failure, file_digests
from transforms.encoding import examples, tfrecord

COLUMNS = schema_file.columns(examples.schema_text(outputs.MODEL.fields()).encode())
SHARD = "embeddings/r/part-00000-of-00002.tfrecord"
LINES = "failures/r/part-00000-of-00001.jsonl"


@pytest.fixture
def output(tmp_path) -> Path:
    images = [embedding(b"/%d.jpg" % i, i) for i in range(5)]
    return outputs.write_run(tmp_path, images, [failure(b"/x.jpg"), failure(b"/caf\xe9")], shards=2)


def check(output, run_id="r"):
    """Returns the findings, and the keys of the good records."""
    findings, records = Findings(), []
    run = RunFiles(Stored(str(output)), run_id, COLUMNS)
    run.check(ContentVectors(), records.append, findings)
    assert [record.key for record in run.records()] == [record.key for record in records]
    return findings, sorted(record.key for record in records)


def problems(output, run_id="r"):
    return {kind: items.first for kind, items in check(output, run_id)[0].problems.items()}


def reseal(output):
    """Lets the report have the digests of the files as they are now."""
    report = run_report.read(str(output), "r")
    report.files.clear()
    report.files.update(file_digests(output, "r"))
    run_report.write(str(output), report)


def test_a_clean_run(output):
    findings, keys = check(output)
    assert keys == [b"/%d.jpg" % i for i in range(5)]
    assert (findings.total, findings.notes) == (0, {})
    assert [check.text for check in findings.checks] == [
        "run r: report: its checksum, and 7 images listed = 5 embedded + 0 reused + 0 duplicate + 2 failed + 0 skipped",
        "run r: 5 records in 2 files: checksums, features, vectors of 4 finite components, one per key",
        "run r: 2 failures in 1 file: fields, one per key",
    ]


def test_a_vector_of_zeros_is_worth_knowing(tmp_path):
    zeros = embedding(b"/black.jpg", 1)
    zeros.vector[:] = 0
    findings, _ = check(outputs.write_run(tmp_path, [zeros]))
    assert findings.total == 0
    assert findings.notes["a vector of zeros, which has no direction to compare"].first == ["/black.jpg"]


@pytest.mark.parametrize("output_format", ["tfrecord", "parquet"])
def test_a_run_of_before_images_in_shards_were_told(tmp_path, output_format):
    """Its records lack the field, and its report has the digest of another schema."""
    outputs.write_run(tmp_path, [embedding(b"/a.jpg", 1)], flags=["--output_format", output_format])
    (shard,) = tmp_path.glob("embeddings/r/part-*")
    if output_format == "parquet":
        pq.write_table(pq.read_table(shard).drop_columns(["shard"]), shard)
    else:
        (frame,) = record_file.frames(io.BytesIO(shard.read_bytes()))
        example = record_file._Example.FromString(frame.record)
        del example.features.feature["image/shard"]
        shard.write_bytes(tfrecord.frame(example.SerializeToString()))
    schema = (tmp_path / "schema.pbtxt").read_bytes()
    (tmp_path / "schema.pbtxt").write_bytes(schema_file.before_shard(schema))
    reseal(tmp_path)
    (tmp_path / "schema.pbtxt").write_bytes(schema)  # of a later run
    assert problems(tmp_path) == {}
    (tmp_path / "schema.pbtxt").write_bytes(schema + b"# changed")
    assert problems(tmp_path) == {"a file has changed since the run wrote it": ["schema.pbtxt"]}


def test_a_broken_record_costs_itself(output):
    content = bytearray((output / SHARD).read_bytes())
    content[20] ^= 1
    (output / SHARD).write_bytes(content)
    findings, keys = check(output)
    assert len(keys) == 4
    assert {kind: items.first for kind, items in findings.problems.items()} == {
        "a record is broken": [f"{SHARD} at byte 0: the checksum of a record's bytes does not match"]
    }


def test_a_record_too_few(output):
    content = (output / SHARD).read_bytes()
    (output / SHARD).write_bytes(content[: len(content) // 3 * 2])
    assert problems(output) == {
        "the number of records differs from the report's": ["embeddings/r/: 4, expected 5"],
    }


def test_files_that_are_missing_and_files_too_many(output):
    (output / "embeddings/r/.parts").mkdir()
    shutil.copy(output / SHARD, output / "embeddings/r/.parts/half.tfrecord")
    shutil.copy(output / SHARD, output / "embeddings/r/part-0-of-2.tfrecord")
    shutil.copy(output / LINES, output / "failures/r/part-00001-of-00002.jsonl")
    (output / SHARD).rename(output / "embeddings/r/part-00002-of-00002.tfrecord")
    kinds = problems(output)
    assert kinds["an unfinished file of a finished run"] == ["embeddings/r/.parts/half.tfrecord"]
    assert kinds["a stray file"] == ["embeddings/r/part-0-of-2.tfrecord"]
    assert kinds["files of a run are missing"] == [
        "embeddings/r/part-…-of-00002: 1 of 2",
        "failures/r/part-…-of-00001: 1 of 1",
        "failures/r/part-…-of-00002: 1 of 2",
    ]
    assert kinds["a file is not in the report"] == ["failures/r/part-00001-of-00002.jsonl"]


def test_a_run_that_is_not_finished_may_have_parts(output):
    (output / "embeddings/r/.parts").mkdir()
    shutil.copy(output / SHARD, output / "embeddings/r/.parts/half.tfrecord")
    (output / "runs/r.json").unlink()
    assert list(problems(output)) == ["a run without a report: it is unfinished, or the report was deleted"]


def test_keys_that_occur_twice(tmp_path):
    images = [embedding(key, i) for i, key in enumerate((b"/a", b"/b", b"/a", b"/c", b"/a"))]
    output = outputs.write_run(tmp_path, images, [failure(b"/c"), failure(b"/d"), failure(b"/d")])
    findings, _ = check(output)
    assert [check.problems for check in findings.checks] == [0, 1, 2]
    assert problems(output) == {
        "a key has several records in one run": ["run r: /a"],
        "a key has several failures in one run": ["run r: /d"],
        "a key has a record and a failure in one run": ["run r: /c"],
    }


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"key": 7}, "expected the field key of type str"),
        ({"retryable": "no"}, "expected the field retryable of type bool"),
        ({"run_id": "s"}, "it is of the run 's'"),
        ({"key": "\ud800"}, "'utf-8' codec can't encode"),
    ],
    ids=repr,
)
def test_a_failure_of_another_form(output, change, problem):
    first, second = (output / LINES).read_text().splitlines()
    (output / LINES).write_text(f"{json.dumps(json.loads(first) | change)}\n{second}\n")
    reseal(output)
    (broken,) = problems(output)["a failure is broken"]
    assert broken.startswith(f"{LINES} in line 1: {problem}")


@pytest.mark.parametrize("lines", ["", "[]\n", "{}\n", "{\n", '{"key": "a"}', "[" * 100_000 + "\n"], ids=range(6))
def test_lines_that_are_no_failures(output, lines):
    (output / LINES).write_text(lines)
    assert {"a file has changed since the run wrote it"} <= problems(output).keys()
    reseal(output)
    assert "the number of failures differs from the report's" in problems(output)


def test_failures_of_another_error(output):
    (output / LINES).write_text((output / LINES).read_text().replace("CorruptImage", "EmptyImage", 1))
    reseal(output)
    assert problems(output) == {
        "the number of failures differs from the report's": [
            "failures/r/: 1 CorruptImage of the stage decode, expected 2",
            "failures/r/: 1 EmptyImage of the stage decode, expected 0",
        ]
    }


def test_a_report_that_cannot_be_used_costs_only_the_comparison(output):
    (output / "runs/r.json").write_text("{}")
    findings, keys = check(output)
    assert len(keys) == 5 and list(findings.problems) == ["a report is broken"]
    (output / "runs/r.json").unlink()
    (output / "runs/r.json").mkdir()
    assert list(problems(output)) == ["a run without a report: it is unfinished, or the report was deleted"]


def test_records_of_another_model_than_the_reports(output):
    report = run_report.read(str(output), "r")
    report.model["digest"] = "e" * 64
    run_report.write(str(output), report)
    findings, keys = check(output)
    assert keys == [] and findings.problems["a record is broken"].count == 5


def parquet_run(directory, *flags):
    images = [embedding(b"/%d.jpg" % i, i) for i in range(5)]
    return outputs.write_run(directory, images, [failure(b"/x.jpg")], shards=2, flags=flags)


@pytest.mark.parametrize("vector_type", ["float32", "float16"])
def test_a_clean_run_in_parquet(tmp_path, vector_type):
    findings, keys = check(parquet_run(tmp_path, "--output_format=parquet", f"--vector_type={vector_type}"))
    assert (findings.total, keys) == (0, [b"/%d.jpg" % i for i in range(5)])
    assert findings.checks[1].text == (
        "run r: 5 records in 2 Parquet files: checksums, columns, vectors of 4 finite components, one per key"
    )


def test_a_clean_run_in_both_formats(tmp_path):
    findings, keys = check(parquet_run(tmp_path, "--output_format=tfrecord,parquet"))
    assert (findings.total, keys) == (0, sorted([b"/%d.jpg" % i for i in range(5)] * 2))
    assert [check.text.split(": ")[1] for check in findings.checks] == [
        "report",
        "5 records in 2 files",
        "5 records in 2 Parquet files",
        "1 failure in 1 file",
    ]


@pytest.mark.parametrize("suffix", ["tfrecord", "parquet"])
def test_one_of_two_formats_is_gone(tmp_path, suffix):
    output = parquet_run(tmp_path, "--output_format=tfrecord,parquet")
    for path in output.glob(f"embeddings/r/*.{suffix}"):
        path.unlink()
    kinds = problems(output)
    assert kinds["the number of records differs from the report's"] == ["embeddings/r/: 0, expected 5"]
    assert len(kinds["a key has a record in one format only"]) == 5


def test_a_parquet_file_of_another_run(tmp_path):
    output = parquet_run(tmp_path / "out", "--output_format=tfrecord,parquet")
    others = [embedding(b"/other/%d.jpg" % i, i) for i in range(5)]
    outputs.write_run(tmp_path / "other", others, shards=2, flags=["--output_format=parquet"])
    name = "embeddings/r/part-00000-of-00002.parquet"
    shutil.copy(tmp_path / "other" / name, output / name)
    kinds = problems(output)
    assert kinds["a file has changed since the run wrote it"] == ["embeddings/r/part-*.parquet"]
    assert "run r: /other/0.jpg" in kinds["a key has a record in one format only"]


def test_each_value_of_a_row_is_checked(tmp_path):
    bad = embedding(b"/bad.jpg", 1, sha256="no digest", height=0)
    bad.vector[2] = float("nan")
    output = outputs.write_run(tmp_path, [embedding(b"/a.jpg", 0), bad, bad], flags=["--output_format=parquet"])
    (first, second) = problems(output)["a record is broken"]
    assert first.startswith("embeddings/r/part-00000-of-00001.parquet in row 1: /bad.jpg: its vector is not finite")
    assert "image/sha256 is no digest" in first and "image/height is 0" in first and "in row 2: " in second


def test_a_key_that_occurs_twice_in_parquet(tmp_path):
    twice = [embedding(b"/a.jpg", 0), embedding(b"/a.jpg", 0)]
    output = outputs.write_run(tmp_path, twice, flags=["--output_format=parquet"])
    assert problems(output) == {"a key has several records in one run": ["run r: /a.jpg"]}


def test_a_run_has_the_files_of_its_own_name_alone(tmp_path):
    outputs.write_run(tmp_path, [embedding(b"/a", 1)], [failure(b"/x")], run_id="r.1")
    outputs.write_run(tmp_path, [embedding(b"/b", 2)], [failure(b"/y")], run_id="rx1")
    for run_id, key in (("r.1", b"/a"), ("rx1", b"/b")):
        findings, keys = check(tmp_path, run_id)
        assert (findings.total, keys) == (0, [key])


def test_a_line_without_an_end_is_not_read_into_memory(output, monkeypatch):
    monkeypatch.setattr("pipeline.commands.verify.run_files._MAX_LINE_BYTES", 300)
    first, second = (output / LINES).read_text().splitlines()
    (output / LINES).write_text(f"{first}\n{'x' * 700}\n{second}\n")
    reseal(output)
    broken = check(output)[0].problems["a failure is broken"]
    assert broken.count == 3  # pieces of 300 bytes
    assert broken.first[:2] == [f"{LINES} in line {number}: the line does not end" for number in (2, 3)]


def test_a_page_that_has_changed_and_one_that_no_report_knows(output):
    page = output / "runs" / "r.html"
    page.write_text("a page")
    assert problems(output) == {"a file is not in the report": ["runs/r.html"]}
    report = run_report.read(str(output), "r")
    report.files["runs/r.html"] = "0" * 64
    run_report.write(str(output), report)
    assert problems(output) == {"a file has changed since the run wrote it": ["runs/r.html"]}
    page.unlink()
    assert problems(output) == {"a file of the report is missing": ["runs/r.html"]}


def test_a_record_too_many(output):
    report = run_report.read(str(output), "r")
    report.counts["embedded"] -= 1
    report.counts["listed"] -= 1
    run_report.write(str(output), report)
    assert problems(output)["the number of records differs from the report's"] == ["embeddings/r/: 5, expected 4"]
