"""Writing the page of a run."""

import dataclasses
import hashlib

import numpy as np
import pytest

from pipeline.report import run_report, write_page
from pipeline.report.page import document
from pipeline.report.page.facts import FailedImage
from tests import data_generation as data
from tests.reporting import compose, configured
from transforms.keys import hashed


def _collected(directory, images=20, dimension=7):
    """Returns what a pipeline collects of images in a directory: vectors of all, pictures of none."""
    rng = np.random.default_rng(0)
    keys = sorted((str(directory / f"{number:05d}.jpg").encode() for number in range(images)), key=hashed)
    vectors = [(hashed(key), key, rng.standard_normal(dimension).astype(np.float32).tobytes()) for key in keys]
    return {"vectors": vectors}


@pytest.fixture
def run(model, tmp_path):
    """Returns the configuration and the report of a run."""
    config = configured("--output", str(tmp_path), "--input", str(tmp_path / "in" / "*"))
    return config, compose(model, "--output", str(tmp_path))


def test_a_page_is_written_and_its_digest_is_in_the_report(run, model, tmp_path):
    config, report = run
    data.write_images(tmp_path / "in", 20, height=30, width=40)
    complete = write_page.with_page(config, report, _collected(tmp_path / "in", dimension=model.dimension))
    page = (tmp_path / "runs" / "r.html").read_bytes()
    assert complete.files == {**report.files, "runs/r.html": hashlib.sha256(page).hexdigest()}
    assert page.count(b"url(data:image/jpeg") == 20  # read again, as no picture was collected
    assert f"--output {tmp_path}".encode() in page
    assert document.statistics(page.decode()).images == 20


def test_a_page_that_cannot_be_written_costs_the_run_nothing(run, tmp_path, caplog):
    config, report = run
    (tmp_path / "runs").write_text("in the way")
    assert write_page.with_page(config, report, {}) == report
    assert "the page of the run is not written" in caplog.text


def test_a_run_that_was_killed_after_its_page_keeps_it(run, model, tmp_path):
    config, report = run
    complete = write_page.with_page(config, report, _collected(tmp_path / "in", dimension=model.dimension))
    page = (tmp_path / "runs" / "r.html").read_bytes()
    assert write_page.with_page_of_last_attempt(config, report) == complete
    assert (tmp_path / "runs" / "r.html").read_bytes() == page
    (tmp_path / "runs" / "r.html").unlink()
    without_images = write_page.with_page_of_last_attempt(config, report)
    assert without_images.files.keys() == complete.files.keys() and without_images != complete


def test_the_run_before_is_compared(run, model, tmp_path):
    config, report = run
    collected = _collected(tmp_path / "in", dimension=model.dimension)
    assert write_page.run_facts(config, report, collected).previous is None
    for run_id, hour in (("a", 1), ("b", 2), ("later", 4)):
        earlier = dataclasses.replace(report, run_id=run_id, started_at=f"2026-03-0{hour}T00:00:00.000+00:00")
        run_report.write(str(tmp_path), write_page.with_page(config, earlier, collected))
    (tmp_path / "runs" / "broken.json").write_text("{}")
    report = dataclasses.replace(report, started_at="2026-03-03T00:00:00.000+00:00")
    facts = write_page.run_facts(config, report, collected)
    assert facts.previous["run_id"] == "b" and facts.previous_statistics.images == 20
    (tmp_path / "runs" / "b.html").write_text('<script type="application/json" id="statistics">[]</script>')
    assert write_page.run_facts(config, report, collected).previous_statistics is None


def test_a_broken_image_has_a_picture_of_its_first_part(run, tmp_path):
    config, report = run
    path = tmp_path / "broken.jpg"
    path.write_bytes(data.jpeg(1, 200, 300)[:8000])
    failed = [
        (hashed(key), key, "decode", error, "truncated", False)
        for key, error in ((str(path).encode(), "CorruptImage"), (b"/gone.jpg", "CorruptImage"), (b"/a", "Killed"))
    ]
    collected = {"failures/decode/CorruptImage": failed[:2], "failures/decode/Killed": failed[2:]}
    shown = write_page.run_facts(config, report, collected).failures
    assert [bool(image.thumbnail) for image in shown] == [True, False, False]


@pytest.mark.parametrize(
    ("flags", "command"),
    [
        (["--output=o", "--input", "a b/*", "--run_id=r"], "python run_pipeline.py --retry_failed --output=o"),
        (["--output", "o", "--run_id", "r", "--prune"], "python run_pipeline.py --retry_failed --output o"),
        (
            ["--input_format=tar", "--input=a", "--output=o"],
            "python run_pipeline.py --input_format=tar --input=a --output=o",
        ),
    ],
    ids=["input", "run", "shards"],
)
def test_the_command_that_tries_again(flags, command):
    config = dataclasses.replace(
        configured("--output=o"), argv=tuple(flags), input_format="tar" if "--input_format=tar" in flags else "images"
    )
    late, broken = (FailedImage(b"k", "read", "E", "m", retryable) for retryable in (True, False))
    assert write_page.retry_command(config, [broken, late]) == command
    assert write_page.retry_command(config, [broken]) == ""
