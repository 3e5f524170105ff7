"""pipeline.report.run_report: the equation holds, or nothing is written."""

import datetime
import hashlib
import json
from collections import Counter

import pytest

from pipeline.flags import options
from pipeline.report import run_report
from pipeline.report.tally import Tally
from tests.helpers.reporting import COUNTED, FAILURES, compose, configured
from transforms.concurrent.cores import usable_cores
from transforms.elements.records import Shard, StageSeconds


def test_what_it_holds(model):
    report = json.loads(compose(model).to_json())
    assert report["counts"] == {"listed": 20, "embedded": 7, "reused": 4, "duplicate": 3, "failed": 3, "skipped": 3}
    assert report["failures"] == {"decode": {"CorruptImage": 2}, "read": {"OSError": 1}}
    # Only what went through the model counts as speed.
    assert (report["elapsed_seconds"], report["images_per_second"], report["shards"]) == (3.5, 2.0, 2)
    assert (report["pruned"], report["inputs"]) == (5, [options.SAMPLES])
    assert report["seconds"] == {"decode": 2.0, "embed": 6.0}
    assert report["timings"] == {
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
    assert report["phases"] == {
        "start_up": 0.75,
        "list": 0.0,
        "compare": 0.0,
        "digest": 0.0,
        "work": 2.5,
        "finish": 0.25,
    }
    assert report["device"] == "CPU"
    assert report["model"] == {
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
        "gives_probabilities": False,
        "output": "",
        "preprocessing": {
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
            "channels": "rgb",
            "resize_mode": "stretch",
            "interpolation": "bilinear",
            "crop_fraction": 1.0,
        },
        "normalize": False,
        "spread": None,
        "files": "",
    }
    assert report["verdict"].startswith(
        "embed-bound: 75% of the threads' time went into the model, 857.1 ms an image on"
    )


def test_the_attempts_of_a_run(model):
    report = compose(model)
    assert report.attempts == {report.started_at: 14}
    origins = {
        ("20260102T030405.006Z", "reused"): 1,
        ("20260101T020304.005Z", "embedded"): 3,
        ("20260102T030405.006Z", "embedded"): 2,
    }
    report = compose(model, origins=origins)
    expected = {"2026-01-01T02:03:04.005+00:00": 3, "2026-01-02T03:04:05.006+00:00": 3, report.started_at: 8}
    assert list(report.attempts.items()) == list(expected.items())  # in order
    # The speed is that of this attempt: 2 images in 3.5 s.
    assert (report.counts["embedded"], report.images_per_second) == (7, 0.571)


def test_a_stage_on_several_devices(model):
    times = [
        StageSeconds("embed", "GPU NVIDIA L4", 3, 1.0, longest=0.5, calls=1.0, started=9.0, ended=12.0),
        StageSeconds("embed", "CPU", 1, 2.0, longest=2.0, calls=1.0, started=8.0, ended=10.0),
    ]
    report = compose(model, times=times)
    assert report.device == "CPU, GPU NVIDIA L4"
    assert (report.seconds, report.timings["embed"]["number"]) == ({"embed": 3.0}, 4)


def cores(*flags):
    return run_report._cores(configured("--input=x", "--output=gs://b/o", *flags))


def test_cores_of_the_machine_that_embeds():
    assert (cores(), cores("--preset=dataflow")) == (usable_cores(), usable_cores())
    assert cores("--preset=dataflow-gpu") == 8
    assert cores("--preset=dataflow-gpu", "--gpu=nvidia-tesla-t4", "--gpu_machine_type=n1-standard-4") == 4


def test_reading_shards_is_not_concurrent(model):
    times = [
        StageSeconds(stage, "", 7, seconds, longest=1.0, calls=7.0, started=0.0, ended=1e12)
        for stage, seconds in (("read", 9.0), ("embed", 1.0))
    ]
    assert "--read_concurrency" in compose(model, times=times).verdict
    verdict = compose(model, "--input_format=tar", times=times).verdict
    assert verdict.startswith("read-bound") and "--read_concurrency" not in verdict


def test_a_report_of_an_earlier_version(model):
    report = json.loads(compose(model).to_json())
    del report["phases"], report["device"], report["attempts"], report["files"], report["checksum"]
    again = run_report.RunReport.from_json(json.dumps(report))
    assert (again.device, again.attempts) == ("", {})


@pytest.mark.parametrize(
    "counted",
    [
        {"listed": 21},
        {"listed": 19},
        *({name: count} for name in ("embedded", "reused", "duplicate", "skipped") for count in (COUNTED[name] - 1, 9)),
        {"failed": 2},
        {"tfrecord": 13},
        {"tfrecord": 15},
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
    assert compose(model, *flags, counted={"tfrecord": 0, "lines": 0, "shards": 0}).shards == 0
    with pytest.raises(RuntimeError, match="unaccounted for"):
        compose(model, *flags, counted={"tfrecord": 0, "lines": 0, "reused": 3})


def test_round_trip(model, tmp_path):
    report = compose(model)
    run_report.write(str(tmp_path), report)
    assert (tmp_path / "runs" / "r.json").read_text() == report.to_json()
    again = run_report.read(str(tmp_path), "r")
    assert again.to_json() == report.to_json()
    assert (again.counts, again.model["image_size"], again.failure_rate) == (report.counts, [224, 224], 0.15)
    assert run_report.read(str(tmp_path), "other") is None


def test_the_checksum_covers_all_other_fields(model):
    fields = json.loads(compose(model).to_json())
    checksum = fields.pop("checksum")
    assert hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest() == checksum
    fields["verdict"] += "."
    assert json.loads(run_report.RunReport(**fields).to_json())["checksum"] != checksum


def test_digests_of_the_files_that_have_no_checksums():
    parts = [Shard(f"/p/{name}", 1, name[0]) for name in ("b.jsonl", "a.jsonl", "d.parquet", "c.parquet")]
    assert run_report.file_digests("r", b"schema", parts) == {
        "schema.pbtxt": hashlib.sha256(b"schema").hexdigest(),
        "failures/r/part-00000-of-00002.jsonl": "a",
        "failures/r/part-00001-of-00002.jsonl": "b",
        "embeddings/r/part-*.parquet": hashlib.sha256(b"cd").hexdigest(),
    }
    assert run_report.file_digests("r", b"", []) == {"schema.pbtxt": hashlib.sha256(b"").hexdigest()}


def test_failure_rate(model):
    report = compose(model)
    assert report.exceeds(0.15) is None
    assert report.exceeds(0.14) == "3 of 20 images failed, 15.00%: more than --max_failure_rate 14.00%"
    assert report.exceeds(None) is None


def test_a_run_in_which_every_image_failed(model):
    counted = dict.fromkeys(COUNTED, 0) | {"listed": 3, "failed": 3, "lines": 3}
    report = compose(model, counted=counted, failures={("decode", "UnknownFormat"): 3}, times=[])
    assert report.exceeds(None) == "3 of 3 images failed: --max_failure_rate 1 allows it"
    assert report.exceeds(1.0) is None
    nothing = compose(model, counted=dict.fromkeys(COUNTED, 0), failures={}, times=[])
    assert nothing.exceeds(None) is None


def test_files_that_were_left_out(model):
    left_out = {("other", ".txt"): 2, ("hidden", "._*"): 1, ("other", ".xml"): 3}
    report = compose(model, left_out=left_out)
    assert report.left_out == {"hidden": {"._*": 1}, "other": {".xml": 3, ".txt": 2}}
    assert report.counts["listed"] == 20
    again = run_report.RunReport.from_json(report.to_json())
    assert again.left_out == report.left_out
    older = {name: value for name, value in json.loads(report.to_json()).items() if name != "left_out"}
    assert run_report.RunReport.from_json(json.dumps(older)).left_out == {}


def test_a_run_without_images_has_a_verdict_and_no_rates(model):
    report = compose(model, counted=dict.fromkeys(COUNTED, 0), failures={}, times=[])
    assert report.verdict.startswith("nothing to embed: no image was listed; ")
    assert (report.failure_rate, report.images_per_second) == (0.0, 0.0)


def test_a_report_is_read_again_without_the_fields_of_a_newer_version(model):
    report = compose(model)
    facts = json.loads(report.to_json())
    assert run_report.RunReport.from_json(json.dumps(facts | {"new_in_a_later_version": {"a": [1]}})) == (
        run_report.RunReport.from_json(report.to_json())
    )
    del facts["phases"], facts["device"]  # an older version has written none
    assert run_report.RunReport.from_json(json.dumps(facts)).phases == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": None}, "expected: counts$"),
        ({"counts": {"listed": 1}}, r"expected: counts\.embedded, counts\.reused, .*counts\.skipped$"),
        ({"counts": dict.fromkeys(run_report.COUNTS, "1")}, "expected: counts$"),
        ({"inputs": "*.jpg"}, "expected: inputs$"),
        ({"inputs": [1]}, "expected: inputs$"),
        ({"shards": True}, "expected: shards$"),
        ({"elapsed_seconds": "long"}, "expected: elapsed_seconds$"),
        ({"failures": {"decode": 3}}, "expected: failures$"),
        ({"feed": {"core_ms": 1.0, "lock_ms": "1"}}, "expected: feed$"),
        (
            {"feed": {"images_per_second": 1.0, "core_ms": 1.0}},
            r"expected: feed\.lock_ms, feed\.cores, feed\.worker_processes$",
        ),
        ({"model": {}}, r"expected: model\.name, model\.digest, model\.dimension, model\.image_size$"),
    ],
)
def test_a_report_with_a_wrong_field_names_it(model, change, message):
    facts = json.loads(compose(model).to_json()) | change
    with pytest.raises(ValueError, match=rf"^'r\.json' is not a run report: .*{message}"):
        run_report.RunReport.from_json(json.dumps(facts), "'r.json'")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff\xfe", b"[]", b"3", b"{}", b"[" * 100_000, b'{"run_id": ' + b"9" * 10_000 + b"}"]
)
def test_a_file_that_is_no_report_is_said_in_one_line(tmp_path, text):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "night.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"night\.json' is not a run report: ") as caught:
        run_report.read(str(tmp_path), "night")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_a_file_too_large_for_a_report_is_not_read_whole(tmp_path):
    (tmp_path / "runs").mkdir()
    with (tmp_path / "runs" / "night.json").open("wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(ValueError, match=rf"expected at most {run_report.MAX_REPORT_BYTES} bytes"):
        run_report.read(str(tmp_path), "night")


def test_the_speed_over_time(model):
    speed = compose(model).speed
    assert sum(speed["images"]) == 12 and speed["span_s"] == 0.25
    # A span begins at a multiple of its length since 1970, and the first may round to no image.
    assert 0.75 <= speed["from_s"] <= 1.25
    assert compose(model, times=[]).speed == {}


def test_the_feed_of_a_machine_with_many_processes(model):
    """Each has a lock of its own."""
    config = configured()
    start = config.started_at.timestamp()
    bundle = StageSeconds(
        "bundle",
        "",
        10_000,
        9.0,
        longest=1.0,
        calls=2.0,
        started=start,
        ended=start + 3,
        core_seconds=4,
        lock_seconds=3,
    )
    tally = Tally(Counter(COUNTED), Counter(FAILURES))
    tally.add_time(bundle)
    finished_at = config.started_at + datetime.timedelta(seconds=3.5)
    feeds = [
        run_report.compose(config, model, tally, finished_at, has_many_processes=many).feed for many in (False, True)
    ]
    assert [feed["worker_processes"] for feed in feeds] == [1, usable_cores()]
    assert {feed["cores"] for feed in feeds} == {usable_cores()}


def test_whole_numbers_are_numbers_and_truths_and_long_ones_are_none(model):
    facts = json.loads(compose(model).to_json())
    assert run_report.RunReport.from_json(json.dumps(facts | {"elapsed_seconds": 3})).elapsed_seconds == 3
    for wrong in ({"elapsed_seconds": True}, {"pruned": 2**63}, {"pruned": 1.0}, {"shards": None}):
        with pytest.raises(ValueError, match=f"expected: {next(iter(wrong))}$"):
            run_report.RunReport.from_json(json.dumps(facts | wrong))
    assert run_report.RunReport.from_json(json.dumps(facts | {"pruned": 2**63 - 1})).pruned == 2**63 - 1


def test_a_report_of_just_the_largest_size_is_read(model, tmp_path, monkeypatch):
    run_report.write(str(tmp_path), compose(model))
    size = (tmp_path / "runs" / "r.json").stat().st_size
    monkeypatch.setattr(run_report, "MAX_REPORT_BYTES", size)
    assert run_report.read(str(tmp_path), "r").run_id == "r"
    monkeypatch.setattr(run_report, "MAX_REPORT_BYTES", size - 1)
    with pytest.raises(ValueError, match=f"expected at most {size - 1} bytes"):
        run_report.read(str(tmp_path), "r")


def test_the_feed_of_a_run_whose_processes_decode(model):
    """They take cores beside the threads, and no lock."""
    start = configured().started_at.timestamp()
    times = [
        StageSeconds(
            stage,
            "",
            10_000,
            9.0,
            longest=1.0,
            calls=2.0,
            started=start,
            ended=start + 3,
            core_seconds=seconds,
            lock_seconds=seconds,
        )
        for stage, seconds in (("bundle", 5.0), ("decode", 4.0))
    ]
    by_threads, by_processes = (
        compose(model, flag, times=times).feed for flag in ("--decode_processes=0", "--decode_processes=2")
    )
    assert (by_threads["core_ms"], by_threads["lock_ms"]) == (0.5, 0.1)
    assert (by_processes["core_ms"], by_processes["lock_ms"]) == (0.9, 0.5)
