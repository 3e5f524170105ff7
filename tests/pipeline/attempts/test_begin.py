"""pipeline.attempts.begin: two processes that begin one run, and what nobody goes on with."""

import dataclasses
import os

import apache_beam as beam
import pytest

from pipeline import launch
from pipeline.attempts import claim
from pipeline.commands.frame import DONE, WRONG
from tests.helpers.running import THREAD


def test_a_run_that_is_being_made_is_refused(start, instead, photos, tmp_path):
    def build(_):
        refused.append(launch.main([f"--output={tmp_path / 'out'}", *THREAD, photos, "--run_id=night"]))
        raise RuntimeError("no")

    refused = []
    instead(build)
    assert start(photos, "--run_id=night").code == 1
    assert refused == [2]


@pytest.mark.slow
def test_a_job_that_is_only_submitted_removes_what_nobody_goes_on_with(start, photos, tmp_path, instead):
    claim = tmp_path / "out" / "runs" / "old.unfinished"
    claim.parent.mkdir(parents=True)
    claim.write_text("{}")
    os.utime(claim, (1, 1))
    instead(lambda pipeline: pipeline | beam.Create([1]))
    done = start(photos, "--run_id=r")
    assert done.code == 0 and "the job was submitted" in done.stdout
    assert not claim.exists()


@pytest.mark.slow
@pytest.mark.parametrize("is_named", [True, False], ids=["named", "not named"])
def test_a_run_that_is_completed_just_after_it_was_looked_at_is_not_done_again(start, photos, monkeypatch, is_named):
    """The first process ends between the second one's look at the run and its claim."""
    look, reports = claim.look, []

    def look_before_the_first_ends(attempt, say):
        monkeypatch.setattr(claim, "look", look)
        state = look(attempt, say)
        reports.append(start(photos, f"--run_id={attempt.run_id}").report)
        return state

    if not is_named:  # the run to go on with is found by its claim, which is left by a process that has died
        monkeypatch.setattr(claim, "unfinished", lambda *_: "night")
    monkeypatch.setattr(claim, "look", look_before_the_first_ends)
    second = start(photos, *(["--run_id=night"] if is_named else []))
    assert second.code == DONE and "the run 'night' is complete, nothing was done" in second.stdout
    assert [second.report] == reports and reports[0]["attempt"] == 1
    assert not list(second.output.glob("runs/*.unfinished")) and not list(second.output.rglob(".*"))


@pytest.mark.slow
def test_of_two_that_replace_a_run_the_second_is_told(start, photos, monkeypatch):
    start(photos, "--run_id=night")
    look, codes = claim.look, []

    def look_before_the_first_ends(attempt, say):
        monkeypatch.setattr(claim, "look", look)
        state = look(attempt, say)
        codes.append(start(photos, "--run_id=night", "--overwrite").code)
        return state

    monkeypatch.setattr(claim, "look", look_before_the_first_ends)
    numbered = claim.numbered
    monkeypatch.setattr(claim, "numbered", lambda attempt, published: dataclasses.replace(attempt, number=2))
    second = start(photos, "--run_id=night", "--overwrite")
    monkeypatch.setattr(claim, "numbered", numbered)
    assert (codes, second.code) == ([DONE], WRONG)
    assert second.stderr == "run_pipeline.py: --run_id 'night': another process has done this run just now\n"
    assert second.report["attempt"] == 2 and not list(second.output.glob("runs/*.unfinished"))
