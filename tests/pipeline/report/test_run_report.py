"""pipeline.report.run_report: the equation holds, or nothing is written."""

import dataclasses
import datetime
import json

import apache_beam as beam
import pytest

from pipeline import options
from pipeline.report import run_report
from pipeline.report.run_report import ComposeReport, WriteReport
from tests.collecting import collect
from transforms.cores import usable_cores
from transforms.records import Failure, Shard, StageSeconds

COUNTED = {
    "listed": 20,
    "embedded": 7,
    "reused": 4,
    "duplicate": 3,
    "failed": 3,
    "skipped": 3,
    "records": 14,
    "lines": 3,
    "shards": 2,
    "pruned": 5,
}
FAILURES = {("decode", "CorruptImage"): 2, ("read", "OSError"): 1}


def configured(*flags):
    return options.parse(["--run_id", "r", *flags])[0]


def compose(model, *flags, counted=None, **changes):
    config = configured(*flags)
    began = config.started_at.timestamp()
    given = {
        "counted": COUNTED | (counted or {}),
        "failures": FAILURES,
        "busy": {
            ("embed", "CPU"): (12, 6.0, 0.75, 3.0, began + 1.0, began + 3.25),
            ("decode", ""): (10, 2.0, 0.5, 10.0, began + 0.75, began + 3.0),
        },
        "finished_at": config.started_at + datetime.timedelta(seconds=3.5),
    }
    return run_report.compose(config, model, **(given | changes))


def test_what_it_holds(model):
    found = json.loads(compose(model).to_json())
    assert found["counts"] == {"listed": 20, "embedded": 7, "reused": 4, "duplicate": 3, "failed": 3, "skipped": 3}
    assert found["failures"] == {"decode": {"CorruptImage": 2}, "read": {"OSError": 1}}
    # Only what went through the model counts as speed.
    assert (found["elapsed_seconds"], found["images_per_second"], found["shards"]) == (3.5, 2.0, 2)
    assert (found["pruned"], found["inputs"]) == (5, [options.SAMPLES])
    assert found["seconds"] == {"decode": 2.0, "embed": 6.0}
    assert found["timings"] == {
        "decode": {"number": 10, "mean_ms": 200.0, "longest_ms": 500.0, "from_s": 0.75, "to_s": 3.0},
        "embed": {
            "number": 12,
            "mean_ms": 500.0,
            "longest_ms": 750.0,
            "from_s": 1.0,
            "to_s": 3.25,
            "batch_size": 4.0,
        },
    }
    assert found["phases"] == {"start_up": 0.75, "list": 0.0, "digest": 0.0, "work": 2.5, "finish": 0.25}
    assert found["device"] == "CPU"
    assert found["model"] == {
        "name": "efficientnet_lite0",
        "format": "bundled",
        "location": "",
        "signature": "",
        "tags": [],
        "dimension": 1280,
        "image_size": [224, 224],
        "digest": model.digest,
        "precision": "float32",
        "precision_cosine": 1.0,
        "classes": 0,
    }
    assert found["verdict"].startswith(
        "embed-bound: 75% of the threads' time went into the model, 857.1 ms an image on"
    )


def test_a_stage_on_several_devices(model):
    busy = {("embed", "GPU NVIDIA L4"): (3, 1.0, 0.5, 1.0, 9.0, 12.0), ("embed", "CPU"): (1, 2.0, 2.0, 1.0, 8.0, 10.0)}
    found = compose(model, busy=busy)
    assert found.device == "CPU, GPU NVIDIA L4"
    assert (found.seconds, found.timings["embed"]["number"]) == ({"embed": 3.0}, 4)


def cores(*flags):
    return run_report._cores(configured("--input=x", "--output=gs://b/o", *flags))


def test_cores_of_the_machine_that_embeds():
    assert (cores(), cores("--preset=dataflow")) == (usable_cores(), usable_cores())
    assert cores("--preset=dataflow-gpu") == 8
    assert cores("--preset=dataflow-gpu", "--gpu=nvidia-tesla-t4", "--gpu_machine_type=n1-standard-4") == 4


def test_reading_shards_is_not_concurrent(model):
    busy = {("read", ""): (7, 9.0, 1.0, 7.0, 0.0, 1e12), ("embed", ""): (7, 1.0, 1.0, 7.0, 0.0, 1e12)}
    assert "--read_concurrency" in compose(model, busy=busy).verdict
    said = compose(model, "--input_format=tar", busy=busy).verdict
    assert said.startswith("read-bound") and "--read_concurrency" not in said


def test_a_report_of_an_earlier_version(model):
    found = json.loads(compose(model).to_json())
    del found["phases"], found["device"]
    assert run_report.RunReport.from_json(json.dumps(found)).device == ""


@pytest.mark.parametrize(
    "counted",
    [
        {"listed": 21},
        {"listed": 19},
        *({name: count} for name in ("embedded", "reused", "duplicate", "skipped") for count in (COUNTED[name] - 1, 9)),
        {"failed": 2},
        {"records": 13},
        {"records": 15},
        {"lines": 2},
    ],
    ids=str,
)
def test_a_report_that_cannot_be_true_is_not_written(model, counted):
    with pytest.raises(RuntimeError, match="images are unaccounted for: .*'listed'"):
        compose(model, counted=counted)


def test_failures_that_are_not_counted_by_error(model):
    with pytest.raises(RuntimeError, match="unaccounted for"):
        compose(model, failures={("a", "b"): 2})


def test_without_files_none_are_counted(model):
    flags = ("--output_table", "p1:d.t")
    assert compose(model, *flags, counted={"records": 0, "lines": 0, "shards": 0}).shards == 0
    with pytest.raises(RuntimeError, match="unaccounted for"):
        compose(model, *flags, counted={"records": 0, "lines": 0, "reused": 3})


def test_round_trip(model, tmp_path):
    found = compose(model)
    run_report.write(str(tmp_path), found)
    assert (tmp_path / "runs" / "r.json").read_text() == found.to_json()
    there = run_report.read(str(tmp_path), "r")
    assert there.to_json() == found.to_json()
    assert (there.counts, there.model["image_size"], there.failure_rate) == (found.counts, [224, 224], 0.15)
    assert run_report.read(str(tmp_path), "other") is None


def test_failure_rate(model):
    found = compose(model)
    assert found.exceeds(0.15) is None
    assert found.exceeds(0.14) == "3 of 20 images failed, 15.00%: more than --max_failure_rate 14.00%"


def test_nothing_done(model):
    found = compose(model, counted=dict.fromkeys(COUNTED, 0), failures={}, busy={})
    assert found.verdict.startswith("nothing to embed: no image was listed; ")
    assert (found.failure_rate, found.images_per_second) == (0.0, 0.0)


def test_nothing_new(model):
    counted = dict.fromkeys(COUNTED, 0) | {"listed": 9, "skipped": 9}
    text = run_report.summary(compose(model, counted=counted, failures={}), configured())
    assert text.startswith("9 images listed = 0 embedded + 0 failed + 9 skipped\n")
    assert "their vectors are in" in text and "/embeddings/*/part-*.tfrecord\n" in text
    assert "(0 files)" in text and "Read them:" not in text and "failed  " not in text


FILES = (
    "/embeddings/r/part-*.tfrecord (2 files)",
    "/runs/r.json",
    "/failures/r/part-*.jsonl",
    "tf.data.TFRecordDataset",
)
TABLE = ("table     p1.d.t, 5 rows pruned; failures in …_failures, this report in …_runs",)


@pytest.mark.parametrize(
    ("flags", "said", "not_said"),
    [
        (("--input=x", "--output=/out"), FILES, TABLE),
        (("--input=x", "--output_table=p1:d.t"), TABLE, FILES),
        (("--input=x", "--output=/out", "--output_table=p1:d.t"), FILES + TABLE, ()),
    ],
    ids=["files", "table", "both"],
)
def test_summary_says_what_a_person_wants_to_know(model, flags, said, not_said):
    counted = {} if "--output=/out" in flags else {"shards": 0}
    text = run_report.summary(compose(model, *flags, counted=counted), configured(*flags))
    for expected in (
        "20 images listed = 7 embedded + 3 failed + 4 reused + 3 duplicate + 3 skipped",
        "2.0 images/s, 3.5 s in all\n  limit     embed-bound: 75% of",
        "efficientnet_lite0, 1280 dimensions from 224x224 pixels",
        "2 × CorruptImage in the stage decode",
        "1 × OSError in the stage read",
        *said,
    ):
        assert expected in text
    assert not [other for other in not_said if other in text]


FAILED = [Failure(b"/%d.jpg" % i, "read" if i < 3 else "decode", "OSError", "", False) for i in range(5)]


def composed(model, config, **changes):
    """Returns the report of a pipeline in which this much became of images."""
    given = {
        "listed": [40, 12],
        "embedded": [30],
        "reused": [9],
        "duplicate": [0],
        "skipped": [8],
        "failed": [],
        "pruned": [2],
    } | changes
    at = config.started_at.timestamp()

    def build(root):
        failures = root | "Failed" >> beam.Create(FAILED)
        counted = [
            (name, root | f"{name}{i}" >> beam.Create(range(count)))
            for name, counts in given.items()
            for i, count in enumerate(counts)
        ]
        records = root | "Records" >> beam.Create([Shard("part-0", 20), Shard("part-1", 19)])
        lines = root | "Lines" >> beam.Create([Shard("part-0", 5)])
        seconds = [
            root | f"Seconds{i}" >> beam.Create([StageSeconds(*busy)] * count).with_output_types(StageSeconds)
            for i, (busy, count) in enumerate(
                (
                    (("read", 0.5, 1.0, "", at + 2.0), 3),
                    (("embed", 0.5, 0.25, "CPU", at + 9.0), 4),
                    (("read", 1.0, 1.0, "", at + 3.0), 1),
                    (("write", 9.0), 0),
                )
            )
        ]
        made = root | ComposeReport(
            config,
            model,
            counted=[*counted, ("failed", failures)],
            failures=failures,
            written=[("records", records), ("lines", lines)],
            seconds=seconds,
        )
        return {"report": made | WriteReport(config, model)}

    found, _ = collect(build)
    (made,) = found["report"]
    return made


def test_counted_in_the_pipeline(model, tmp_path):
    config = configured("--input=x", f"--output={tmp_path}")
    found = composed(model, config)
    assert found.counts == {"listed": 52, "embedded": 30, "reused": 9, "duplicate": 0, "failed": 5, "skipped": 8}
    assert (found.pruned, found.shards) == (2, 2)
    assert found.failures == {"read": {"OSError": 3}, "decode": {"OSError": 2}}
    assert (found.seconds, found.device) == ({"read": 2.5, "embed": 2.0}, "CPU")
    assert found.timings == {
        "read": {"number": 4, "mean_ms": 625.0, "longest_ms": 1000.0, "from_s": 1.5, "to_s": 3.0},
        # A batch took as long as its four images together.
        "embed": {"number": 4, "mean_ms": 500.0, "longest_ms": 500.0, "from_s": 7.0, "to_s": 9.0, "batch_size": 4.0},
    }
    assert run_report.read(str(tmp_path), "r").to_json() == found.to_json()
    assert "1280" in (tmp_path / "schema.pbtxt").read_text()


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
    assert composed(model, configured("--input=x", "--output_table=p1:d.t")).counts["embedded"] == 30
    assert not list(tmp_path.iterdir())
