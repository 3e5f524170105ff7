"""pipeline.attempts.complete_run: a run of a name that is complete, and another one of that name."""

import pytest

from pipeline import warehouse
from pipeline.attempts import complete_run
from pipeline.flags import options
from pipeline.report import run_report
from pipeline.report.run_report import COUNTS, RunReport
from transforms.output import layout
from transforms.storage import files


@pytest.fixture
def photos(tmp_path):
    """A directory with an image, as far as a listing can tell."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    return tmp_path / "photos"


def configured(output, *flags, run_id="night"):
    config, _ = options.parse([f"--output={output}", f"--run_id={run_id}", *map(str, flags)])
    return config


MODEL = {"name": "m", "digest": "", "dimension": 3, "image_size": [4, 4]}


def reported(config, digest, **changes):
    """Returns the report of a run in which nothing was to do."""
    values = {
        "run_id": config.run_id,
        "started_at": "2026-03-29T01:00:00+00:00",
        "finished_at": "2026-03-29T01:00:01+00:00",
        "counts": dict.fromkeys(COUNTS, 0),
        "pruned": 0,
        "failures": {},
        "inputs": list(config.inputs),
        "model": MODEL | {"digest": digest},
        "shards": 1,
        "seconds": {},
        "timings": {},
        "elapsed_seconds": 1.0,
        "images_per_second": 0.0,
        "verdict": "nothing to do",
    }
    return RunReport(**(values | changes))


def test_a_complete_run_is_known_by_its_report(photos, tmp_path, model):
    config = configured(tmp_path / "out", f"--input={photos}")
    assert complete_run.find(config, model) is None
    complete = reported(config, model.digest)
    run_report.write(config.output, complete)
    assert complete_run.find(config, model).report == complete
    assert complete_run.find(configured(tmp_path / "out", f"--input={photos}", run_id="other"), model) is None
    assert complete_run.find(configured(tmp_path / "out", f"--input={photos}", "--overwrite"), model) is None


@pytest.mark.parametrize("changes", [{"inputs": ["/elsewhere/**"]}, {"model": MODEL | {"digest": "d" * 64}}], ids=repr)
def test_another_run_of_the_same_name_is_refused(photos, tmp_path, model, changes):
    config = configured(tmp_path / "out", f"--input={photos}")
    run_report.write(config.output, reported(config, model.digest, **changes))
    with pytest.raises(ValueError, match="--run_id 'night' is of a complete run with other inputs or another model"):
        complete_run.find(config, model)
    assert complete_run.exists(config)


def test_a_run_is_complete_when_its_rows_are_published(photos, tmp_path, model, monkeypatch):
    config = configured(tmp_path / "out", f"--input={photos}", "--output_table=p1:d.t")
    complete = reported(config, model.digest, shards=0)
    run_report.write(config.output, complete)
    rows = {}
    monkeypatch.setattr(warehouse.publish, "published", lambda table, run_id: rows.get((table, run_id)))
    assert complete_run.find(config, model) is None  # files alone do not do
    rows["p1.d.t", "night"] = complete
    assert complete_run.find(config, model).report == complete
    files.remove_file(layout.report(config.output, "night"))
    assert complete_run.find(config, model).report == complete
    assert run_report.read(config.output, "night") is None  # a check writes nothing
