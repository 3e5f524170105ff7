"""pipeline.check: what is refused before any worker starts, with everything left as it was."""

import pytest

from pipeline import check, options
from pipeline.report import run_report
from pipeline.warehouse import publish
from transforms import write_tfrecord
from transforms.encoding import examples


def parsed(*flags):
    return options.parse([str(flag) for flag in flags])[0]


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a")
    return tmp_path / "photos"


def test_inputs_that_are_there(photos, tmp_path):
    check.check_inputs(parsed("--input", photos, "--output", tmp_path / "out"))


@pytest.mark.parametrize(
    ("pattern", "output", "said"),
    [
        ("none/*", "out", "matches nothing: expected at least one file"),
        ("nowhere://x/*", "out", "cannot be listed: "),
        ("photos", "photos/out", "lies within --input"),
    ],
)
def test_inputs_that_are_wrong(photos, tmp_path, pattern, output, said):
    pattern = pattern if "://" in pattern else tmp_path / pattern
    with pytest.raises(ValueError, match=said):
        check.check_inputs(parsed("--input", pattern, "--output", tmp_path / output))


def test_an_output_is_looked_at_and_left_as_it_was(tmp_path, model):
    check.check_output(parsed("--output", tmp_path / "a" / "out"), model)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out" / "embeddings" / "r").mkdir(parents=True)
    (tmp_path / "out" / "embeddings" / "r" / "part-00000-of-00001.tfrecord").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    check.check_output(parsed("--output", tmp_path / "out", "--run_id", "r", "--overwrite"), model)
    assert sorted(tmp_path.rglob("*")) == before


def test_outputs_that_are_wrong(tmp_path, model):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match=r"--output '.*/file/out' cannot be written: .*Not a directory"):
        check.check_output(parsed("--output", tmp_path / "file" / "out"), model)
    write_tfrecord.write_schema(str(tmp_path / "out"), examples.Written("m", "d", 7))
    with pytest.raises(ValueError, match="holds vectors of 7 dimensions and model .* give each its own --output"):
        check.check_output(parsed("--output", tmp_path / "out"), model)


def test_a_temp_location_within_the_input(tmp_path):
    config = parsed("--input", "gs://photos/**", "--output_table", "p:d.t")
    with pytest.raises(ValueError, match="--temp_location 'gs://photos/tmp' lies within --input 'gs://photos/\\*\\*'"):
        check.check_temp_location(config, "gs://photos/tmp")


def report(config, spec, **changes):
    made = run_report.compose(config, spec, counted={}, failures={}, busy={}, finished_at=config.started_at)
    return run_report.RunReport.from_json(run_report.RunReport(**(vars(made) | changes)).to_json())


def test_a_run_is_finished_where_all_its_places_say_so(photos, tmp_path, model, monkeypatch):
    here = parsed("--input", photos, "--output", tmp_path / "out", "--run_id", "r")
    both = parsed("--input", photos, "--output", tmp_path / "out", "--run_id", "r", "--output_table", "p:d.t")
    done = report(here, model)
    assert check.finished(here, model) is None
    run_report.write(here.output, done)
    assert check.finished(here, model) == done
    monkeypatch.setattr(publish, "published", lambda table, run_id: None)
    assert check.finished(both, model) is None  # its rows are not in the table
    monkeypatch.setattr(publish, "published", lambda table, run_id: done)
    assert check.finished(both, model) == done
    (tmp_path / "out" / "runs" / "r.json").unlink()
    assert check.finished(both, model) == done  # it wrote no shard, and none is there
    assert not list((tmp_path / "out" / "runs").iterdir())  # a check writes nothing


@pytest.mark.parametrize("change", [{"inputs": ["other"]}, {"model": {"digest": "other"}}])
def test_another_run_of_the_same_name_is_refused(photos, tmp_path, model, change):
    flags = "--input", photos, "--output", tmp_path / "out", "--run_id", "r"
    config = parsed(*flags)
    run_report.write(config.output, report(config, model, **change))
    with pytest.raises(ValueError, match="--run_id 'r' is of a complete run with other inputs or another model"):
        check.finished(config, model)
    assert check.finished(parsed(*flags, "--overwrite"), model) is None
