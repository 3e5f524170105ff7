"""Runs side by side: the order, the drift between two, and each format."""

import dataclasses
import json

import pytest

from pipeline.commands import runs
from tests.helpers import browser, outputs, run_facts
from tests.helpers import data_generation as data
from tests.helpers.running import run_pipeline


def _write(output, run_id, started_at, seeds, **changes):
    outputs.write_run(output, [outputs.embedding(b"%d" % seed, seed) for seed in seeds], run_id=run_id, **changes)
    report = output / "runs" / f"{run_id}.json"
    report.write_text(json.dumps(json.loads(report.read_text()) | {"started_at": started_at}))


@pytest.fixture
def output(tmp_path):
    _write(tmp_path, "b", "2026-01-01T00:00:00+00:00", range(3), failures=[outputs.failure(b"x")])
    _write(tmp_path, "a", "2026-01-02T00:00:00+00:00", range(5))
    return tmp_path


def _rows(output, capfd, *flags):
    assert runs.main(["--output", str(output), "--format", "json", *flags]) == 0
    return json.loads(capfd.readouterr().out)


def test_runs_are_in_the_order_of_their_begin(output, capfd):
    rows = _rows(output, capfd)
    assert [(row["run"], row["listed"], row["new"], row["failed"]) for row in rows] == [("b", 4, 3, 1), ("a", 5, 5, 0)]
    assert [row["failure_rate"] for row in rows] == [0.25, 0]
    assert {row["model"] for row in rows} == {"tiny dddddddd"} and {row["shift"] for row in rows} == {None}


def test_the_last_runs_alone(output, capfd):
    assert [row["run"] for row in _rows(output, capfd, "--last", "1")] == ["a"]


def test_runs_are_shown_in_a_table(output, capfd):
    assert runs.main(["--output", str(output)]) == 0
    head, first, second = capfd.readouterr().out.splitlines()
    assert head.split() == ["run", "listed", "new", "failed", "images/s", "seconds", "model", "shift", "overlap"]
    assert first.split()[:5] == ["b", "4", "3", "1", "(25.0%)"] and second.split()[-2:] == ["–", "–"]


def test_statistics_that_are_none_count_as_none(output, capfd):
    for content in (b"\xff<html>", b"{}"):
        (output / "runs" / "a.statistics").write_bytes(content)
        assert runs.main(["--output", str(output), "--format", "json"]) == 0
        shown = capfd.readouterr()
        assert [row["shift"] for row in json.loads(shown.out)] == [None, None]
        assert shown.err.startswith("runs: no drift of a, whose statistics cannot be used: expected the statistics")


def _write_statistics(output, run_id, sample, digest="d" * 64):
    model = run_facts.report()["model"] | {"digest": digest}
    facts = run_facts.facts(report=run_facts.report(model=model), sample=sample)
    (output / "runs" / f"{run_id}.statistics").write_text(facts.statistics.to_json())


def test_a_run_is_compared_with_the_latest_of_its_model_that_has_images(tmp_path, capfd):
    """Not with an idle night, nor with one of another model, nor with one of few images."""
    same, moved = run_facts.sample(40), run_facts.sample(40)
    moved.vectors[:] += 1
    pages = [(same, "d" * 64), None, (same, "e" * 64), (run_facts.sample(7), "d" * 64), (moved, "d" * 64)]
    for number, page in enumerate(pages):
        _write(tmp_path, f"r{number}", f"2026-01-0{number + 1}T00:00:00+00:00", range(1))
        if page:
            _write_statistics(tmp_path, f"r{number}", *page)
    rows = _rows(tmp_path, capfd)
    assert [row["drifted"] for row in rows] == [False] * 4 + [True] and rows[4]["overlap"] > 0
    assert [row["shift"] for row in rows[:4]] == [None] * 4
    assert _rows(tmp_path, capfd, "--last", "1") == rows[4:]


def test_what_is_no_report_is_skipped_and_named(output, capfd):
    (output / "runs" / "broken.json").write_text("{")
    (output / "runs" / "for\u202eeign.json").write_text("[1]")
    assert runs.main(["--output", str(output), "--format", "json"]) == 0
    out, err = capfd.readouterr()
    assert [row["run"] for row in json.loads(out)] == ["b", "a"]
    first, second = sorted(err.splitlines())
    assert first.startswith("runs: skips broken: ") and second.startswith(r"runs: skips for\u202eeign: ")
    for name in "a", "b":
        (output / "runs" / f"{name}.json").write_text("no report")
    assert runs.main(["--output", str(output)]) == 2
    assert "none of its runs/*.json can be read" in capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("form", ["table", "html"])
def test_the_name_of_a_model_is_printable(tmp_path, capfd, form):
    model = dataclasses.replace(outputs.MODEL, name="a\u202e\n")
    _write(tmp_path, "a", "2026-01-02T00:00:00+00:00", range(5), model=model)
    assert runs.main(["--output", str(tmp_path), "--format", form]) == 0
    assert r"a\u202e\n dddddddd" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ([], "--output: expected the directory that runs wrote to"),
        (["--output", "{output}/nowhere"], "no runs/*.json there: expected the directory that runs wrote to"),
        (["--output", "{output}", "--last", "0"], "expected a whole number from 1"),
    ],
)
def test_what_is_refused_in_one_line(output, capfd, flags, error):
    assert runs.main([flag.format(output=output) for flag in flags]) == 2
    err = capfd.readouterr().err
    assert error in err and err.count("\n") == 1


@pytest.mark.slow
def test_darker_images_are_a_drift(tmp_path, capfd):
    for run_id, brightness in (("one", 1.0), ("two", 1.0), ("three", 0.3)):
        paths = data.write_images(tmp_path / run_id, 40, height=60, width=80)
        for path in paths:
            _darken(path, brightness)
        run = run_pipeline(tmp_path / "out", "--input", tmp_path / run_id, "--run_id", run_id, "--reprocess")
        assert run.code == 0, run.stderr
    rows = _rows(tmp_path / "out", capfd)
    assert [row["drifted"] for row in rows] == [False, False, True]
    assert rows[1]["shift"] < 0.05 < rows[2]["shift"]
    assert runs.main(["--output", str(tmp_path / "out"), "--format", "html"]) == 0
    (tmp_path / "runs.html").write_text(capfd.readouterr().out)
    for scheme in ("light", "dark"):
        with browser.page(color_scheme=scheme, width=390, height=844) as page:
            page.goto((tmp_path / "runs.html").as_uri())
            assert page.get_by_role("heading", name="3 runs").count() == 1
            assert page.locator("tr.drifted").count() == 1
            assert page.evaluate("document.documentElement.scrollWidth") == 390
            page.check()
            page.screenshot(path=tmp_path / f"{scheme}.png")


def _darken(path, brightness):
    from PIL import Image, ImageEnhance

    with Image.open(path) as image:
        ImageEnhance.Brightness(image).enhance(brightness).save(path, quality=95)
