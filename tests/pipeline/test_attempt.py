"""pipeline.attempt: which report and which parts are whose, and when those of other attempts go."""

import dataclasses
import datetime
import json
import os
import pickle
import time

import pytest

from pipeline import attempt, options
from transforms.parts import Label
from transforms.storage import contested, files

OWN = datetime.datetime(2026, 11, 21, 1, 2, 3, 456789, datetime.UTC)


@pytest.fixture
def config(tmp_path, monkeypatch):
    config, _ = options.parse(["--output", str(tmp_path), "--run_id", "r"])
    object.__setattr__(config, "started_at", OWN)
    (tmp_path / "runs").mkdir()
    return config


@pytest.mark.parametrize(
    ("content", "stays"),
    [
        (json.dumps({"started_at": "2026-11-21T01:02:03.456+00:00"}), True),
        (json.dumps({"started_at": "2026-11-21T01:02:03.455+00:00"}), False),
        (
            json.dumps({"started_at": "2027-01-01T00:00:00.000+00:00"}),
            True,
        ),  # a bundle of an attempt that was killed wakes up
        ('{"started_at": "2026-11-21T01:02:0', False),
        ("[]", False),
    ],
    ids=["its own", "an earlier one's", "a later one's", "half of one", "no report"],
)
def test_only_the_report_of_an_earlier_attempt_goes(config, tmp_path, content, stays):
    place, sibling = tmp_path / "runs" / "r.json", tmp_path / "runs" / "r2.json"
    place.write_text(content)
    sibling.write_text(content)
    own = pickle.loads(pickle.dumps(attempt.of(config)))  # noqa: S301 - made here
    own.retire()
    own.retire()  # as a bundle that runs twice does
    assert place.exists() is stays and sibling.exists()


def test_where_there_is_no_report_nothing_is_done(config, tmp_path):
    attempt.of(config).retire()
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_report_that_cannot_be_removed_stops_the_job(config, tmp_path, monkeypatch):
    (tmp_path / "runs" / "r.json").write_text("{}")
    monkeypatch.setattr(files, "remove_file", lambda path: None)
    with pytest.raises(OSError, match=r"runs/r.json cannot be removed: it is the report of an earlier run"):
        attempt.of(config).retire()


def test_a_run_without_files_has_no_report_to_retire(config):
    dataclasses.replace(attempt.of(config), output=None).retire()


def test_labels_are_in_the_order_of_the_attempts(config):
    own = attempt.of(config)
    assert own.label == "20261121T010203.456Z" and attempt.started_at(own.label) == "2026-11-21T01:02:03.456+00:00"
    moments = [datetime.timedelta(milliseconds=1), datetime.timedelta(seconds=1), datetime.timedelta(days=400)]
    later = [dataclasses.replace(own, started_at=OWN + moment).label for moment in moments]
    assert sorted([*later[::-1], own.label]) == [own.label, *later]
    assert own.labels(("embedded", "failed")) == (Label(own.label, "embedded"), Label(own.label, "failed"))


def test_where_the_parts_of_a_run_lie(config):
    own = attempt.of(config)
    assert own.vectors == f"{config.output}/embeddings/r"
    without_files = dataclasses.replace(config, output=None, output_table="p.d.t")
    assert attempt.of(without_files, "gs://b/tmp").vectors == "gs://b/tmp/p.d.t/embeddings/r"


def write(path, content=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


EARLIER, LATER = "20261121T010203.455Z", "20261121T010203.457Z"


@pytest.fixture
def parts(config, tmp_path):
    """Parts of three attempts, by their names, and a stray file."""
    own = attempt.of(config).label
    names = [f"{label}-{outcome}-0.tfrecord" for label in (EARLIER, own, LATER) for outcome in ("embedded", "resumed")]
    names.append("stray.tfrecord")
    return {name: write(tmp_path / "embeddings" / "r" / ".parts" / name) for name in names}


def test_only_parts_that_earlier_attempts_have_embedded_are_read(config, parts):
    assert list(attempt.of(config).earlier_parts()) == [str(parts[f"{EARLIER}-embedded-0.tfrecord"])]
    another = dataclasses.replace(config, run_id="another")
    assert list(attempt.of(another).earlier_parts()) == []


def claimed(config, tmp_path, label=None):
    """Returns an attempt with a claim on the disk, which is that of the attempt `label`."""
    path = write(tmp_path / "runs" / "r.unfinished", json.dumps({"attempt": label or attempt.of(config).label}))
    return dataclasses.replace(attempt.of(config), claim=str(path)), path


def test_a_run_that_is_finished_leaves_no_part_and_no_claim(config, tmp_path, parts):
    own, claim = claimed(config, tmp_path)
    failed = write(tmp_path / "failures" / "r" / ".parts" / f"{EARLIER}-failed-0.jsonl")
    for _ in range(2):  # as a bundle that runs twice does
        own.finish()
        assert {name for name, path in parts.items() if path.exists()} == {name for name in parts if LATER in name}
        assert not claim.exists() and not failed.exists()


def test_the_claim_of_another_attempt_stays(config, tmp_path):
    own, claim = claimed(config, tmp_path, LATER)
    own.finish()
    assert claim.exists()
    with pytest.raises(
        OSError, match="^run_id='r': the claim .*/r.unfinished is not this attempt's any more, so it names"
    ):
        own.check_claim()


def test_an_attempt_checks_its_claim(config, tmp_path):
    own, claim = claimed(config, tmp_path)
    own.check_claim()
    attempt.of(config).check_claim()  # one that holds none
    claim.unlink()
    with pytest.raises(OSError, match="is not this attempt's any more"):
        own.check_claim()
    # A runner repeats the last step of a run that is complete, and that has removed its claim.
    write(tmp_path / "runs" / "r.json", json.dumps({"started_at": "2026-11-21T01:02:03.456+00:00"}))
    own.check_claim()


def test_a_claim_that_is_lost_in_between_is_left(config, tmp_path, monkeypatch):
    own, claim = claimed(config, tmp_path)
    read, of_another = contested.read, json.dumps({"attempt": LATER})

    def read_and_lose(path):
        present = read(path)
        claim.write_text(of_another)
        return present

    monkeypatch.setattr(contested, "read", read_and_lose)
    own.finish()
    assert claim.read_text() == of_another


def test_a_claim_that_shows_a_sign_of_life_in_between_goes(config, tmp_path, monkeypatch):
    own, path = claimed(config, tmp_path)
    remove = contested.remove

    def after_a_beat(claim, state):
        monkeypatch.setattr(contested, "remove", remove)
        present = contested.read(claim)
        contested.write(claim, present.content + b" ", present.state)
        remove(claim, state)

    monkeypatch.setattr(contested, "remove", after_a_beat)
    own.finish()
    assert contested.remove is remove and not path.exists()


def test_what_nobody_has_gone_on_with_for_two_weeks_is_removed(config, tmp_path):
    days = 24 * 3600.0
    for run_id, age in (("old", 14.1), ("young", 13.9)):
        for path in (
            write(tmp_path / "runs" / f"{run_id}.unfinished"),
            write(tmp_path / "embeddings" / run_id / ".parts" / f"{EARLIER}-embedded-0.tfrecord"),
            write(tmp_path / "failures" / run_id / ".parts" / f"{EARLIER}-failed-0.jsonl"),
        ):
            os.utime(path, (time.time() - age * days,) * 2)
    write(tmp_path / "embeddings" / "old" / "part-00000-of-00001.tfrecord", "of a run that --overwrite was to replace")
    attempt.remove_abandoned(attempt.of(config))
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        "runs/young.unfinished",
        f"embeddings/young/.parts/{EARLIER}-embedded-0.tfrecord",
        f"failures/young/.parts/{EARLIER}-failed-0.jsonl",
        "embeddings/old/part-00000-of-00001.tfrecord",
    }
