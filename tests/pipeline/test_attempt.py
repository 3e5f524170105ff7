"""pipeline.attempt: whose report it is, and when that of another attempt goes."""

import datetime
import json
import pickle

import pytest

from pipeline import attempt, options
from transforms.storage import files

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
    retire = pickle.loads(pickle.dumps(attempt.retirement(config)))  # noqa: S301 - made here
    retire()
    retire()  # as a bundle that runs twice does
    assert place.exists() is stays and sibling.exists()


def test_where_there_is_no_report_nothing_is_done(config, tmp_path):
    attempt.retirement(config)()
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_report_that_cannot_be_removed_stops_the_job(config, tmp_path, monkeypatch):
    (tmp_path / "runs" / "r.json").write_text("{}")
    monkeypatch.setattr(files, "remove_file", lambda path: None)
    with pytest.raises(OSError, match=r"runs/r.json cannot be removed: it is the report of an earlier run"):
        attempt.retirement(config)()
