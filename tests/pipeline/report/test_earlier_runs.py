"""The runs before a run."""

import dataclasses
import os

import numpy as np
import pytest

from pipeline.report import earlier_runs, run_report
from tests.helpers import run_facts
from tests.helpers.reporting import compose
from transforms.output import layout


@pytest.fixture
def report(model, tmp_path):
    """Returns the report of a run on the fifth day."""
    return _day(compose(model, "--output", str(tmp_path)), 5, "r")


def _day(report, day, run_id, digest="d"):
    started_at = f"2026-03-{day:02d}T00:00:00.000+00:00"
    return dataclasses.replace(report, run_id=run_id, started_at=started_at, model=report.model | {"digest": digest})


def _write(output, report, images=20):
    run_report.write(str(output), report)
    facts = run_facts.facts(report=run_facts.report(model=report.model), sample=run_facts.sample(images))
    path = output / "runs" / f"{report.run_id}.statistics"
    path.write_text(facts.statistics.to_json() if facts.statistics else "")
    return path


def _compared(output, report):
    earlier = earlier_runs.before(str(output), report)
    compared = earlier_runs.statistics(str(output), earlier, report.model["digest"])
    return compared and compared[0]


def test_the_latest_begin_comes_first_whenever_the_files_changed(report, tmp_path):
    for day, run_id, changed in ((1, "b", 4), (3, "a", 1), (2, "c", 3), (7, "later", 9)):
        _write(tmp_path, _day(report, day, run_id))
        os.utime(layout.report(str(tmp_path), run_id), (changed, changed))
    _write(tmp_path, report)
    (tmp_path / "runs" / "broken.json").write_text("{}")
    assert [each.run_id for each in earlier_runs.before(str(tmp_path), report)] == ["a", "c", "b"]
    assert earlier_runs.before(str(tmp_path / "nowhere"), report) == []


def test_few_reports_are_read(report, tmp_path):
    for number in range(12):
        _write(tmp_path, _day(report, 1, f"n{number:02d}"))
        os.utime(layout.report(str(tmp_path), f"n{number:02d}"), (number, number))
    names = sorted(each.run_id for each in earlier_runs.before(str(tmp_path), report))
    assert names == [f"n{number:02d}" for number in range(2, 12)]


def test_a_run_that_embedded_nothing_or_little_is_passed_over(report, tmp_path):
    _write(tmp_path, _day(report, 1, "a"))
    _write(tmp_path, _day(report, 2, "nothing"), images=0)
    _write(tmp_path, _day(report, 3, "little"), images=7)
    _write(tmp_path, _day(report, 4, "unseen")).unlink()
    assert earlier_runs.before(str(tmp_path), report)[0].run_id == "unseen"
    assert _compared(tmp_path, report) == "a"


def test_another_model_and_broken_statistics_are_passed_over(report, tmp_path, caplog):
    _write(tmp_path, _day(report, 1, "a"))
    _write(tmp_path, _day(report, 2, "other", digest="e"))
    _write(tmp_path, _day(report, 3, "broken")).write_text("[]")
    assert _compared(tmp_path, report) == "a" and "broken" in caplog.text
    assert _compared(tmp_path, _day(report, 5, "r", digest="f")) is None


def test_the_statistics_are_those_of_the_sample(report, tmp_path):
    _write(tmp_path, _day(report, 1, "a"))
    earlier = earlier_runs.before(str(tmp_path), report)
    _, statistics = earlier_runs.statistics(str(tmp_path), earlier, "d")
    np.testing.assert_allclose(statistics.mean, run_facts.sample(20).vectors.mean(axis=0), atol=1e-6)  # float32


def test_a_report_or_statistics_that_cannot_be_read_is_passed_over(report, tmp_path, monkeypatch, caplog):
    _write(tmp_path, _day(report, 1, "a"))
    _write(tmp_path, _day(report, 2, "b"))
    read, statistics = run_report.read, earlier_runs.statistics_file.read

    def fail(of, name):
        def read_or_fail(output, run_id):
            if run_id == name:
                raise OSError(5, "Input/output error")
            return of(output, run_id)

        return read_or_fail

    with monkeypatch.context() as patch:
        patch.setattr(run_report, "read", fail(read, "b"))
        assert [each.run_id for each in earlier_runs.before(str(tmp_path), report)] == ["a"]
    with monkeypatch.context() as patch:
        patch.setattr(earlier_runs.statistics_file, "read", fail(statistics, "b"))
        assert _compared(tmp_path, report) == "a"
    assert caplog.text.count("Input/output error") == 2 and _compared(tmp_path, report) == "b"


def test_a_run_that_began_at_the_same_time_is_not_before(report, tmp_path):
    _write(tmp_path, _day(report, 5, "same"))
    assert earlier_runs.before(str(tmp_path), report) == []


def test_statistics_of_another_model_than_its_report_says_are_passed_over(report, tmp_path):
    _write(tmp_path, _day(report, 1, "a"))
    other = _write(tmp_path, _day(report, 2, "other", digest="e")).read_text()
    _write(tmp_path, _day(report, 3, "swapped")).write_text(other)
    assert _compared(tmp_path, report) == "a"
