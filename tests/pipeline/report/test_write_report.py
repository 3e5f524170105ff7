"""pipeline.report.write_report: a pipeline composes the report of its own elements and writes it, or fails."""

import dataclasses
import hashlib
from types import SimpleNamespace

import apache_beam as beam
import pytest

from pipeline.attempts import attempt
from pipeline.report import run_report, write_report
from pipeline.report.write_report import ComposeReport, WriteReport
from tests.helpers.collecting import collect
from tests.helpers.reporting import compose, configured
from transforms.elements.records import Failure, Shard, StageSeconds
from transforms.output import schema

pytestmark = pytest.mark.slow

FAILED = [Failure(b"/%d.jpg" % i, "read" if i < 3 else "decode", "OSError", "", False) for i in range(5)]


def composed(model, config, **changes):
    """Returns the report that a pipeline composes and writes of these counts."""
    counts_by_name = {
        "listed": [40, 12],
        "embedded": [30],
        "reused": [9],
        "duplicate": [0],
        "skipped": [8],
        "failed": [],
        "pruned": [2],
    } | changes
    start = config.started_at.timestamp()

    def build(root):
        failures = root | "Failed" >> beam.Create(FAILED)
        counted = [
            (name, root | f"{name}{i}" >> beam.Create(range(count)))
            for name, counts in counts_by_name.items()
            for i, count in enumerate(counts)
        ]
        records = root | "Records" >> beam.Create([Shard("part-0", 20), Shard("part-1", 19)])
        lines = root | "Lines" >> beam.Create([Shard("lines.jsonl", 5, "hash")])
        seconds = [
            root | f"Seconds{i}" >> beam.Create([time] * count).with_output_types(StageSeconds)
            for i, (time, count) in enumerate(
                (
                    (StageSeconds.of("read", 0.5, ended=start + 2.0), 3),
                    (StageSeconds.of("embed", 0.5, calls=0.25, device="CPU", ended=start + 9.0), 4),
                    (StageSeconds.of("read", 1.0, ended=start + 3.0), 1),
                    (StageSeconds.of("write", 9.0), 0),
                )
            )
        ]
        report = root | ComposeReport(
            config,
            model,
            counted=[*counted, ("failed", failures)],
            failures=failures,
            written=[("tfrecord", records), ("lines", lines)],
            seconds=seconds,
        )
        return {"report": report | WriteReport(config, attempt.of(config, "gs://b/temp"))}

    collections, _ = collect(build)
    (report,) = collections["report"]
    return report


def test_counted_in_the_pipeline(model, tmp_path):
    config = configured("--input=x", f"--output={tmp_path}")
    report = composed(model, config)
    assert report.counts == {"listed": 52, "embedded": 30, "reused": 9, "duplicate": 0, "failed": 5, "skipped": 8}
    assert (report.pruned, report.shards) == (2, 2)
    assert report.failures == {"read": {"OSError": 3}, "decode": {"OSError": 2}}
    assert (report.seconds, report.device) == ({"read": 2.5, "embed": 2.0}, "CPU")
    assert report.timings == {
        "read": {"number": 4, "mean_ms": 625.0, "longest_ms": 1000.0, "from_s": 1.5, "to_s": 3.0},
        # A batch took as long as its four images together.
        "embed": {"number": 4, "mean_ms": 500.0, "longest_ms": 500.0, "from_s": 7.0, "to_s": 9.0, "batch_size": 4.0},
    }
    assert report.files == {
        "schema.pbtxt": hashlib.sha256(schema.content(model.fields())).hexdigest(),
        "failures/r/part-00000-of-00001.jsonl": "hash",
    }
    assert run_report.read(str(tmp_path), "r").to_json() == report.to_json()


def test_parts_go_once_the_report_is_there(model, tmp_path):
    part = tmp_path / "embeddings" / "r" / ".parts" / "20260101T020304.005Z-embedded-0.tfrecord"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"")
    with pytest.raises(Exception, match="images are unaccounted for"):
        composed(model, configured("--input=x", f"--output={tmp_path}"), listed=[53])
    assert part.exists()
    composed(model, configured("--input=x", f"--output={tmp_path}"))
    assert run_report.read(str(tmp_path), "r") and not list(tmp_path.rglob(".parts"))


def test_a_pipeline_that_lost_an_image_fails_and_writes_no_report(model, tmp_path):
    with pytest.raises(Exception, match="images are unaccounted for"):
        composed(model, configured("--input=x", f"--output={tmp_path}"), listed=[53])
    assert run_report.read(str(tmp_path), "r") is None


def test_too_many_failures_fail_the_job_after_the_report(model, tmp_path):
    config = dataclasses.replace(configured("--input=x", f"--output={tmp_path}"), max_failure_rate=0.05)
    with pytest.raises(Exception, match="5 of 52 images failed, 9.62%: more than --max_failure_rate 5.00%"):
        composed(model, config)
    assert run_report.read(str(tmp_path), "r").counts["failed"] == 5


def test_without_an_output_no_file_is_written(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(attempt.Attempt, "finish", lambda self: None)  # which asks a bucket
    assert composed(model, configured("--input=x", "--output_table=p1:d.t")).counts["embedded"] == 30
    assert not list(tmp_path.iterdir())


def test_the_report_is_written_before_the_parts_go_and_a_run_that_failed_too_often_has_both(
    model, tmp_path, monkeypatch
):
    config, done = configured("--input=x", f"--output={tmp_path}"), []
    monkeypatch.setattr(run_report, "write", lambda output, report, check: (check(), done.append("report")))
    own = SimpleNamespace(finish=lambda: done.append("parts"), check_claim=lambda: done.append("claim"))
    report = compose(model)
    assert write_report._write(report, dataclasses.replace(config, max_failure_rate=0.15), own) is report
    with pytest.raises(write_report.FailureRateExceeded, match="3 of 20 images failed"):
        write_report._write(report, dataclasses.replace(config, max_failure_rate=0.149), own)
    assert done == ["claim", "report", "parts"] * 2
