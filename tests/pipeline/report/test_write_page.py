"""Writing the page of a run."""

import dataclasses
import hashlib
import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pipeline.report import run_report, statistics_file, write_page
from tests.helpers import data_generation as data
from tests.helpers.reporting import compose, configured
from transforms.elements.keys import hashed
from transforms.models.preprocessing import TF_HUB

PLAIN = dataclasses.asdict(TF_HUB)


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


def test_a_page_and_its_statistics_are_written_and_their_digests_are_in_the_report(run, model, tmp_path):
    config, report = run
    data.write_images(tmp_path / "in", 20, height=30, width=40)
    complete = write_page.with_page(report, config, _collected(tmp_path / "in", dimension=model.dimension))
    page = (tmp_path / "runs" / "r.html").read_bytes()
    statistics = (tmp_path / "runs" / "r.statistics").read_bytes()
    of_page = {
        f"runs/r.{name}": hashlib.sha256(of).hexdigest() for name, of in (("html", page), ("statistics", statistics))
    }
    assert complete.files == {**report.files, **of_page}
    assert page.count(b"url(data:image/jpeg") == 20  # read again, as no picture was collected
    assert f"--output {tmp_path}".encode() in page
    assert statistics_file.read(str(tmp_path), "r").images == 20


def test_a_page_that_cannot_be_written_costs_the_run_nothing(run, tmp_path, caplog):
    config, report = run
    (tmp_path / "runs").write_text("in the way")
    without = write_page.with_page(report, config, {})
    assert without == dataclasses.replace(report, page_error=without.page_error)
    assert without.page_error.startswith("[Errno 20] Not a directory: ")
    assert "the page of the run is not written" in caplog.text


def test_statistics_are_in_the_report_if_the_page_alone_cannot_be_written(run, model, tmp_path):
    config, report = run
    (tmp_path / "runs" / "r.html").mkdir(parents=True)
    without = write_page.with_page(report, config, _collected(tmp_path / "in", dimension=model.dimension))
    assert without.files.keys() == {*report.files, "runs/r.statistics"} and without.page_error


def test_a_run_that_was_killed_after_its_page_keeps_it(run, model, tmp_path):
    config, report = run
    complete = write_page.with_page(report, config, _collected(tmp_path / "in", dimension=model.dimension))
    page = (tmp_path / "runs" / "r.html").read_bytes()
    assert write_page.with_page_of_last_attempt(config, report) == complete
    assert (tmp_path / "runs" / "r.html").read_bytes() == page
    (tmp_path / "runs" / "r.html").unlink()
    without_images = write_page.with_page_of_last_attempt(config, report)
    assert without_images.files.keys() == {*report.files, "runs/r.html"}
    assert not (tmp_path / "runs" / "r.statistics").exists()


def test_a_run_that_was_killed_between_its_statistics_and_its_page_gets_both(run, model, tmp_path, monkeypatch):
    config, report = run
    collected = _collected(tmp_path / "in", dimension=model.dimension)
    monkeypatch.setattr(write_page.stored_sample, "collected", lambda output, report: collected)
    complete = write_page.with_page(report, config, collected)
    assert write_page.with_page_of_last_attempt(config, complete) == complete
    for gone in ("html", "statistics"):
        (tmp_path / "runs" / f"r.{gone}").unlink()
        assert run_report.lacks_page(config.output, complete)
        assert write_page.with_page_of_last_attempt(config, complete) == complete
        assert not run_report.lacks_page(config.output, complete)


def test_statistics_that_are_gone_leave_the_page_as_it_is(run, model, tmp_path, monkeypatch):
    config, report = run
    collected = _collected(tmp_path / "in", dimension=model.dimension)
    complete = write_page.with_page(report, config, collected)
    page = tmp_path / "runs" / "r.html"
    (tmp_path / "runs" / "r.statistics").unlink()
    before = page.stat()
    monkeypatch.setattr(write_page.stored_sample, "collected", lambda output, report: collected)
    assert write_page.with_page_of_last_attempt(config, complete) == complete
    assert (page.stat().st_ino, page.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_run_of_an_earlier_version_keeps_its_page_without_statistics(run, tmp_path):
    config, report = run
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "r.html").write_text("a page")
    complete = write_page.with_page_of_last_attempt(config, report)
    assert complete.files.keys() == {*report.files, "runs/r.html"}
    assert not run_report.lacks_page(config.output, complete)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["r.html"]


def test_the_run_before_is_compared(run, model, tmp_path):
    config, report = run
    collected = _collected(tmp_path / "in", dimension=model.dimension)
    facts = write_page.run_facts(config, report, collected)
    assert (facts.previous, facts.compared_run, facts.compared_statistics) == (None, "", None)
    earlier = dataclasses.replace(report, run_id="a", started_at="2026-03-01T00:00:00.000+00:00")
    run_report.write(str(tmp_path), write_page.with_page(earlier, config, collected))
    idle = dataclasses.replace(report, run_id="b", started_at="2026-03-02T00:00:00.000+00:00")
    run_report.write(str(tmp_path), write_page.with_page(idle, config, {}))
    report = dataclasses.replace(report, started_at="2026-03-03T00:00:00.000+00:00")
    facts = write_page.run_facts(config, report, collected)
    assert (facts.previous["run_id"], facts.compared_run) == ("b", "a") and facts.compared_statistics.images == 20


def test_pictures_are_as_the_model_sees_them(run, model, tmp_path):
    """A red and a blue half: the centre in a square has some of both, and the whole image is black above and below."""
    config, report = run
    for mode, corner in (("stretch", (254, 0, 0)), ("crop", (254, 0, 0)), ("pad", (0, 0, 0))):
        image = Image.new("RGB", (200, 100), (255, 0, 0))
        image.paste((0, 0, 255), (60, 0, 200, 100))
        data_path = tmp_path / "in" / "00000.jpg"
        data_path.parent.mkdir(exist_ok=True)
        image.save(data_path, quality=95)
        facts = report.model | {"image_size": [64, 64], "preprocessing": {**PLAIN, "resize_mode": mode}}
        seen = dataclasses.replace(report, model=facts)
        collected = _collected(tmp_path / "in", 1, dimension=model.dimension)
        (picture,) = write_page.run_facts(config, seen, collected).sample.thumbnails
        pixels = np.asarray(Image.open(io.BytesIO(picture)))
        assert pixels.shape == (64, 64, 3)
        np.testing.assert_allclose(pixels[2, 2], corner, atol=12)  # JPEG
        share_of_red = (pixels[32, :, 0] > 128).mean()
        assert share_of_red == pytest.approx({"stretch": 0.3, "crop": 0.1, "pad": 0.3}[mode], abs=0.03)


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


def test_pictures_take_no_longer_than_their_share_of_the_run(run, model, tmp_path, monkeypatch):
    """Of a run of 100 s, they take one; each takes 0.3 s here, and the fourth ends behind that second."""
    config, report = run
    data.write_images(tmp_path / "in", 20, height=30, width=40)
    now = 0.0

    def read(*args):
        nonlocal now
        now += 0.3
        return original(*args)

    original = write_page.read_image.read
    monkeypatch.setattr(write_page.read_image, "read", read)
    monkeypatch.setattr(write_page, "time", SimpleNamespace(monotonic=lambda: now))
    collected = _collected(tmp_path / "in", dimension=model.dimension)
    for seconds, pictures in ((100.0, 4), (1.0, 1), (3.5, 1), (1000.0, 20)):
        long = dataclasses.replace(report, elapsed_seconds=seconds)
        found = write_page.run_facts(config, long, collected).sample.thumbnails
        assert sum(map(bool, found)) == pictures


def test_images_of_shards_are_not_read_again(run, model, tmp_path, monkeypatch):
    config, report = run
    monkeypatch.setattr(write_page.read_image, "read", lambda *args: pytest.fail("it was read"))
    key = bytes(tmp_path / "a.tar#1.jpg")
    collected = _collected(tmp_path / "in", dimension=model.dimension)
    collected["failures/decode/CorruptImage"] = [(hashed(key), key, "decode", "CorruptImage", "m", False)]
    shards = dataclasses.replace(config, input_format="tar")
    facts = write_page.run_facts(shards, report, collected)
    assert not any(facts.sample.thumbnails) and [image.thumbnail for image in facts.failures] == [b""]


def test_few_failures_of_a_kind_are_shown_and_few_with_a_picture(run, monkeypatch):
    config, report = run
    read = []
    monkeypatch.setattr(write_page, "_broken_picture", lambda key, config: read.append(key) or b"picture")
    monkeypatch.setattr(write_page, "MAX_PICTURES", 4)
    collected = {
        f"failures/{stage}/{error}": [
            (hashed(b"%d" % number), b"%d" % number, stage, error, "m", False) for number in range(9)
        ]
        for stage, error in (("decode", "CorruptImage"), ("read", "OSError"), ("read", "CorruptImage"))
    }
    shown = write_page.run_facts(config, report, collected).failures
    assert [(each.stage, each.error) for each in shown] == [
        (stage, error)
        for stage, error in (("decode", "CorruptImage"), ("read", "OSError"), ("read", "CorruptImage"))
        for _ in range(write_page.MAX_EXAMPLES)
    ]
    assert [bool(each.thumbnail) for each in shown] == [True] * 4 + [False] * (len(shown) - 4) and len(read) == 4


def test_an_image_of_more_pixels_than_the_run_allows_has_no_picture(run, model, tmp_path):
    config, report = run
    data.write_images(tmp_path / "in", 1, height=30, width=40)
    collected = _collected(tmp_path / "in", 1, dimension=model.dimension)
    for most, has_picture in ((1200, True), (1199, False)):
        limited = dataclasses.replace(config, max_pixels=most)
        (picture,) = write_page.run_facts(limited, report, collected).sample.thumbnails
        assert bool(picture) is has_picture


def test_an_image_that_has_killed_a_decoder_is_not_decoded_for_its_picture(run, tmp_path, monkeypatch):
    config, report = run
    data.write_images(tmp_path / "in", 1)
    monkeypatch.setattr(write_page.thumbnail, "of_broken", lambda encoded: pytest.fail("it was decoded"))
    key = bytes(tmp_path / "in" / "00000.jpg")
    collected = {f"failures/decode/{error}": [(hashed(key), key, "decode", error, "m", False)] for error in ("K", "T")}
    assert [image.thumbnail for image in write_page.run_facts(config, report, collected).failures] == [b"", b""]
