"""Pages of real runs with the bundled model: planted duplicates, planted drift, planted wrong preprocessing."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipeline.commands.verify import verify
from pipeline.report import statistics_file
from tests.helpers import browser, run_facts, tiny_module
from tests.helpers import data_generation as data
from tests.helpers.running import run_pipeline

pytestmark = pytest.mark.slow

SAMPLES = Path(__file__).parents[2] / "pipeline" / "samples" / "images"
PHOTOGRAPHS = ("astronaut.jpg", "cat.jpg", "coffee.jpg", "rocket.jpg", "retina.avif")


def page_of(run, run_id: str) -> str:
    return (run.output / "runs" / f"{run_id}.html").read_text()


def warnings_of(page: str) -> list[str]:
    section = re.search(r'<section id="warnings".*?</section>', page, re.DOTALL)[0]
    return re.findall(r"<h3>(.*?)</h3>", section)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """A directory of photographs, three copies of each that are not equal, and a file with a hostile name."""
    directory = tmp_path_factory.mktemp("photographs")
    for name in PHOTOGRAPHS:
        image = Image.open(SAMPLES / name).convert("RGB")
        width, height = image.size
        stem = name.partition(".")[0]
        margins = (width // 40, height // 40, width - width // 40, height - height // 40)
        image.save(directory / f"{stem}.jpg", quality=95)
        image.save(directory / f"{stem}-recompressed.jpg", quality=70)
        image.resize((width * 2 // 3, height * 2 // 3)).save(directory / f"{stem}-resized.jpg", quality=95)
        image.crop(margins).save(directory / f"{stem}-cropped.jpg", quality=95)
    (directory / run_facts.HOSTILE).write_bytes(data.jpeg(1, 200, 200)[:3000])
    return directory


@pytest.fixture(scope="module")
def run(photographs, tmp_path_factory):
    return run_pipeline(
        tmp_path_factory.mktemp("run"), "--input", photographs, "--run_id", "first", "--max_failure_rate=1"
    )


def test_planted_duplicates_are_grouped(run):
    section = re.search(r'<section id="duplicates".*?</section>', page_of(run, "first"), re.DOTALL)[0]
    groups = [
        {name.partition("-")[0].partition(".")[0] for name in re.findall(r'<span title="[^"]*">([^<]*)</span>', group)}
        for group in section.split("<h3>")[1:]
    ]
    assert sorted(map(sorted, groups)) == [[name.partition(".")[0]] for name in sorted(PHOTOGRAPHS)]
    assert section.count("<h3>4 images") == len(PHOTOGRAPHS)


def test_the_summary_names_the_page_and_verify_knows_it(run, capsys):
    assert f"page      {run.output}/runs/first.html" in run.stdout
    assert verify.main(["--output", str(run.output)]) == 0
    page = run.output / "runs" / "first.html"
    content = page.read_bytes()
    page.write_bytes(content.replace(b"Near-duplicates", b"near-duplicates"))
    assert verify.main(["--output", str(run.output)]) == 1
    page.write_bytes(content)
    assert "runs/first.html" in capsys.readouterr().out


def test_the_page_of_a_run_in_a_browser(run):
    with browser.page() as opened:
        opened.goto((run.output / "runs" / "first.html").as_uri())
        opened.check()
        assert [url for url in opened.requests if not url.startswith("data:")] == [opened.url]
        failure = opened.locator("#failures li")
        assert failure.locator("b").inner_text() == run_facts.HOSTILE and failure.locator("img").count() == 1
        assert opened.locator(".dot").count() == 4 * len(PHOTOGRAPHS)
        assert opened.title() == "Run first"


def test_planted_drift_is_called_by_name(run, photographs, tmp_path):
    """Half of the images have a third of their light. Their names are the same, so both samples hold them.

    A run in between has nothing to embed, and its page no statistics.
    """
    idle = run_pipeline(run.output, "--input", photographs, "--run_id", "idle", "--max_failure_rate=1")
    assert f"{4 * len(PHOTOGRAPHS)} had one already" in page_of(idle, "idle")
    for number, path in enumerate(sorted(photographs.glob("*[a-z].jpg"))):
        if path.name == run_facts.HOSTILE or number % 2:
            continue
        image = Image.open(path).convert("RGB")
        image.point(lambda value: value // 3).save(path, quality=95)
    again = run_pipeline(
        run.output, "--input", photographs, "--run_id", "second", "--reprocess", "--max_failure_rate=1"
    )
    page = page_of(again, "second")
    assert warnings_of(page) == ["Drift since an earlier run"]
    assert "Since the run first the mean vector moved by" in page and "The images are darker" in page


class _ScaledTwice(tiny_module.TinyModule):
    """A model that gets pixels in [0, 1] and divides them by 255 once more."""

    @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.float32)])
    def __call__(self, images):
        return super().__call__(images / 255.0)


def test_planted_wrong_preprocessing_shows_as_collapsed_vectors(tmp_path):
    tf.saved_model.save(_ScaledTwice(), str(tmp_path / "model"))
    data.write_images(tmp_path / "in", 12, height=40, width=40)
    flags = "--input", tmp_path / "in", "--model", tmp_path / "model", "--image_size", "32x32", "--run_id", "r"
    run = run_pipeline(tmp_path / "out", *flags)
    assert run.code == 0, run.stderr
    assert warnings_of(page_of(run, "r")) == ["Collapsed vectors"]


def test_without_a_page(tmp_path):
    data.write_images(tmp_path / "in", 3, height=40, width=40)
    run = run_pipeline(tmp_path / "out", "--input", tmp_path / "in", "--no_html")
    assert (
        run.code == 0
        and [path.suffix for path in (run.output / "runs").iterdir()] == [".json"]
        and " page " not in run.stdout
    )
    assert not any(name.startswith("runs/") for name in run.report["files"])


def test_a_second_run_that_reuses_vectors_shows_their_images(run, tmp_path):
    """Renamed images keep their vectors, and are read again for their pictures."""
    photos = tmp_path / "in"
    data.write_images(photos, 4, height=40, width=40)
    assert run_pipeline(tmp_path / "out", "--input", photos, "--run_id", "a").code == 0
    for path in sorted(photos.iterdir()):
        path.rename(path.with_name(f"renamed-{path.name}"))
    again = run_pipeline(tmp_path / "out", "--input", photos, "--run_id", "b")
    page = page_of(again, "b")
    assert "4 reused" in page and page.count("url(data:image/jpeg") == 4
    statistics = statistics_file.read(str(again.output), "b")
    assert statistics.images == 4 and np.isfinite(statistics.spread)
