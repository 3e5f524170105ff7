"""pipeline.report: the equation holds, or nothing is written."""

import datetime
import json

import pytest

from pipeline import options, report
from transforms.records import Shard

SHARDS = [Shard("o/embeddings/r/part-0", 5), Shard("o/embeddings/r/part-1", 2)]


def compose(model, **changes):
    config, _ = options.parse(["--run_id", "r"])
    counted = {
        "listed": 10,
        "failures": {("decode", "CorruptImage"): 2, ("read", "OSError"): 1},
        "embeddings": SHARDS,
        "failed": [Shard("o/failures/r/part-0", 3)],
        "seconds": {"embed": 6.0, "decode": 2.0},
        "finished_at": config.started_at + datetime.timedelta(seconds=3.5),
    }
    return report.compose(config, model, **(counted | changes))


def test_what_it_holds(model):
    found = json.loads(compose(model).to_json())
    assert found["counts"] == {"listed": 10, "embedded": 7, "reused": 0, "duplicate": 0, "failed": 3, "skipped": 0}
    assert found["failures"] == {"decode": {"CorruptImage": 2}, "read": {"OSError": 1}}
    assert (found["elapsed_seconds"], found["images_per_second"], found["shards"]) == (3.5, 2.0, 2)
    assert found["seconds"] == {"decode": 2.0, "embed": 6.0}
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
        "classes": 0,
    }
    assert found["verdict"] == "embed-bound: 75% of the workers' busy time went into the stage embed"


@pytest.mark.parametrize(
    "changes",
    [{"listed": 11}, {"listed": 9}, {"embeddings": SHARDS[:1]}, {"failed": []}, {"failures": {("a", "b"): 2}}],
    ids=["one lost", "one too many", "a shard lost", "failures not written", "failures miscounted"],
)
def test_a_report_that_cannot_be_true_is_not_written(model, changes):
    with pytest.raises(RuntimeError, match="unaccounted for"):
        compose(model, **changes)


def test_round_trip(model, tmp_path):
    found = compose(model)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "r.json").write_text(found.to_json())
    assert report.read(str(tmp_path), "r").to_json() == found.to_json()
    assert report.read(str(tmp_path), "other") is None


def test_failure_rate(model):
    found = compose(model)
    assert found.exceeds(0.3) is None
    assert found.exceeds(0.29) == "3 of 10 images failed, 30.00%: more than --max_failure_rate 29.00%"


def test_nothing_done(model):
    found = compose(model, listed=0, failures={}, embeddings=[], failed=[], seconds={})
    assert (found.verdict, found.failure_rate) == ("no image was worked on", 0.0)


def test_summary_says_what_a_person_wants_to_know(model):
    text = report.summary(compose(model), "/out")
    for expected in (
        "10 images listed = 7 embedded + 3 failed",
        "2.0 images/s",
        "efficientnet_lite0, 1280 dimensions from 224x224 pixels",
        "/out/embeddings/r/part-*.tfrecord (2 files)",
        "/out/runs/r.json",
        "2 × CorruptImage in the stage decode",
        "/out/failures/r/part-*.jsonl",
        "tf.data.TFRecordDataset",
    ):
        assert expected in text
