"""A run that is replaced by one of the same name: it goes when its successor is complete, and not before."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pipeline import launch
from tests.helpers import data_generation as data
from tests.helpers.running import ROOT, command, read_rows

pytestmark = pytest.mark.slow

RUN = "--run_id", "r"


def embed(output: Path, photos: Path, *flags: object) -> int:
    """Runs the command in this process, and returns its exit code."""
    return launch.main([str(part) for part in ("--input", photos, "--output", output, *RUN, *flags)])


def contents(output: Path) -> dict[str, bytes]:
    """Returns all files below a directory, those that have no final name included."""
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def complete_files(output: Path) -> dict[str, bytes]:
    """Returns the files of complete runs: neither parts nor the claim to a run that is unfinished."""
    files = contents(output)
    return {name: files[name] for name in files if ".parts" not in name and not name.endswith(".unfinished")}


def keys(output: Path) -> list[str]:
    return sorted(Path(row["image/key"].decode()).name for row in read_rows(output))


def report(output: Path) -> dict:
    return json.loads((output / "runs" / "r.json").read_text())


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Path:
    """What a complete run wrote, of three images and one that failed."""
    directory = tmp_path_factory.mktemp("complete")
    data.write_images(directory / "photos", 3, height=60, width=80)
    (directory / "photos" / "broken.jpg").write_bytes(b"text")
    assert embed(directory / "out", directory / "photos") == 0
    return directory / "out"


@pytest.fixture
def output(complete, tmp_path) -> Path:
    """A copy of it to replace."""
    shutil.copytree(complete, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def others(tmp_path) -> Path:
    """Two other images."""
    data.write_images(tmp_path / "others", 2, start=10, height=60, width=80)
    return tmp_path / "others"


def test_what_is_refused_touches_nothing(output, others, capfd):
    before = contents(output)
    assert embed(output, others, "--overwrite", "--output_table", "p:d.t") == 2
    assert "give --temp_location gs://BUCKET/DIRECTORY" in capfd.readouterr().err
    assert contents(output) == before


def test_an_output_that_is_refused_is_not_made(others, tmp_path, monkeypatch):
    from pipeline import check
    from pipeline.warehouse import publish

    def refuse(table, *others):
        assert not (tmp_path / "a").exists()
        raise ValueError(f"--output_table {table!r} has other columns than expected")

    monkeypatch.setattr(check, "check_temp_location", lambda config, temp_location: None)
    monkeypatch.setattr(publish, "published", lambda table, run_id: None)
    monkeypatch.setattr(publish, "prepare", refuse)
    flags = "--output_table", "p:d.t", "--temp_location", "gs://bucket/tmp"
    assert embed(tmp_path / "a" / "out", others, *flags) == 2
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("is_another", [False, True])
def test_a_report_that_is_in_the_table_alone_is_written_when_nothing_is_refused(
    output, others, is_another, cloud, monkeypatch, capfd
):
    from google.cloud import bigquery, storage

    from pipeline.report.run_report import RunReport
    from pipeline.warehouse import publish

    place = output / "runs" / "r.json"
    published = RunReport.from_json(place.read_text())
    place.unlink()  # the job was killed after its rows were published
    before = contents(output)
    monkeypatch.setattr(publish, "published", lambda table, run_id: published)
    photos = others if is_another else published.inputs[0]
    name = f"another_{is_another}".lower()
    dataset = bigquery.Client(project="test").create_dataset(f"test.{name}").dataset_id
    bucket = storage.Client().create_bucket(name)
    flags = "--output_table", f"test:{dataset}.t", "--temp_location", f"gs://{bucket.name}/loads"
    assert embed(output, photos, *flags) == (2 if is_another else 0)
    assert not list(bucket.list_blobs())
    said = capfd.readouterr()
    if is_another:
        assert "is of a complete run with other inputs or another model" in said.err
        assert contents(output) == before
    else:
        assert "the run 'r' is complete, nothing was done" in said.out
        assert RunReport.from_json(place.read_text()) == published


def test_an_attempt_that_dies_while_files_are_named_is_not_taken_for_the_one_in_the_table(
    output, others, monkeypatch, capfd
):
    from pipeline.attempts import complete_run
    from pipeline.flags import options
    from pipeline.model_checks import precision
    from pipeline.report.run_report import RunReport
    from pipeline.warehouse import publish
    from transforms.storage import files

    place = output / "runs" / "r.json"
    published = RunReport.from_json(place.read_text())
    monkeypatch.setattr(publish, "published", lambda table, run_id: published)
    flags = "--input", published.inputs[0], "--output", str(output), *RUN, "--output_table", "p:d.t"
    config, _ = options.parse(flags)
    model = precision.resolved(config, is_local=True)
    assert complete_run.find(config, model).report == published

    name = files.name

    def die(part, path):
        name(part, path)
        raise OSError("the disk is gone")

    monkeypatch.setattr(files, "name", die)
    assert embed(output, others, "--overwrite") == 1
    assert not place.exists() and list(output.glob("embeddings/r/part-*"))
    assert complete_run.find(config, model) is None
    shutil.rmtree(output / "embeddings" / "r" / ".parts")
    (output / "embeddings" / "r" / "part-00000-of-00009.tfrecord").write_bytes(b"of another numbering")
    assert complete_run.find(config, model) is None


def test_all_of_a_run_is_replaced(output, others):
    (output / "embeddings" / "r" / "part-00007-of-00009.tfrecord").write_bytes(b"of an attempt that was killed")
    (output / "failures" / "r" / ".parts").mkdir()
    (output / "failures" / "r" / ".parts" / "x.jsonl").write_bytes(b"{")
    before = report(output)
    assert before["counts"]["failed"] == 1 and list(output.glob("failures/r/part-*"))
    assert embed(output, others, "--overwrite") == 0
    assert report(output)["counts"] == dict.fromkeys(before["counts"], 0) | {"listed": 2, "embedded": 2}
    assert keys(output) == sorted(path.name for path in others.iterdir())
    shards = [name for name in contents(output) if name.startswith("embeddings/r/part-")]
    assert len(shards) == report(output)["shards"]
    assert sorted(contents(output)) == sorted(
        [*shards, "runs/r.html", "runs/r.json", "runs/r.statistics", "schema.pbtxt"]
    )


def test_a_run_without_a_vector_replaces_one_with_vectors(output, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"")
    assert embed(output, tmp_path / "broken", "--overwrite", "--max_failure_rate=1") == 0
    assert report(output)["counts"]["failed"] == report(output)["counts"]["listed"] == 1
    assert keys(output) == [] and len(list(output.glob("failures/r/part-*"))) == 1


def test_its_own_vectors_are_no_news_to_a_run_that_replaces_them(output, complete):
    photos = complete.parent / "photos"
    assert embed(output, photos, "--overwrite") == 0
    counts = report(output)["counts"]
    assert (counts["listed"], counts["embedded"], counts["failed"], counts["skipped"]) == (4, 3, 1, 0)


def test_a_job_that_fails_leaves_the_run_that_it_would_replace(output, others, monkeypatch, capfd):
    from transforms.models.engines import loading

    def fail(model, pixels):
        raise RuntimeError("the accelerator is gone")

    before = contents(output)
    monkeypatch.setattr(loading.EmbeddingModel, "timed", fail)
    # Of the run that is there, more images failed than that: its report is not taken for this job's.
    assert embed(output, others, "--overwrite", "--max_failure_rate", 0.1) == 1
    said = capfd.readouterr()
    assert said.out == "" and "run_pipeline.py: the job failed: " in said.err and "the accelerator is gone" in said.err
    assert complete_files(output) == before


def test_a_job_that_dies_while_files_are_named_leaves_no_run_that_looks_complete(output, others, monkeypatch):
    from transforms.storage import files

    def die(part, path):
        assert not (output / "runs" / "r.json").exists()
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(files, "name", die)
        assert embed(output, others, "--overwrite") == 1
    assert not (output / "runs" / "r.json").exists() and list(output.glob("embeddings/r/.parts/*"))
    assert embed(output, others) == 0  # goes on, without --overwrite
    assert list(report(output)["attempts"].values()) == [2, 0]
    assert keys(output) == sorted(path.name for path in others.iterdir())
    assert not list(output.rglob(".parts")) and not list(output.glob("failures/r/part-*"))


def test_a_job_that_is_killed_leaves_the_run_that_it_would_replace(output, others, tmp_path):
    before = contents(output)
    data.write_images(tmp_path / "many", 1500, height=60, width=80)
    process = subprocess.Popen(
        command("--input", tmp_path / "many", "--output", output, *RUN, "--overwrite"),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(output.glob("embeddings/r/.parts/*")):  # until vectors are being written
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    assert complete_files(output) == before
    assert report(output)["counts"]["embedded"] == len(keys(output)) == 3
    assert embed(output, others, "--overwrite") == 0
    assert keys(output) == sorted(path.name for path in others.iterdir())
    assert not list(output.rglob(".parts"))
