"""The page of the server in a real browser: drop an image, see its neighbours, click on."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import vector_shards
from pipeline.search import query
from pipeline.search.index import Index
from pipeline.search.serve import Server
from tests import browser
from tests import data_generation as data
from tests.running import run_pipeline

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=alert(1)>.jpg"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("in") / "photos"
    data.write_images(directory, 3, height=60, width=80)
    shutil.copy(directory / "00002.jpg", directory / HOSTILE)
    return directory


@pytest.fixture(scope="module")
def url(photos, tmp_path_factory) -> Iterator[str]:
    output = tmp_path_factory.mktemp("out")
    assert run_pipeline(output, "--input", photos).code == 0
    shards = vector_shards.paths(str(output))
    index = Index(shards)
    with Server(0, index, query.embedder(shards, index.digest)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_drop_an_image_and_click_on(url, photos, scheme):
    with browser.page(color_scheme=scheme, width=390, height=844) as page:
        page.goto(url)
        page.get_by_role("button", name="00001.jpg").wait_for()
        assert page.locator(".card").count() == 4
        page.set_input_files("#file", photos / "00001.jpg")
        page.get_by_role("heading", name="Neighbours of 00001.jpg").wait_for()
        assert page.locator(".card").first.inner_text().splitlines() == ["00001.jpg", "cosine 1.0000"]
        page.get_by_role("button", name=HOSTILE).press("Enter")
        page.get_by_role("heading", name=f"Neighbours of {HOSTILE}").wait_for()
        assert page.locator(".card").first.inner_text().splitlines() == ["00002.jpg", "cosine 1.0000"]
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.check()


def test_what_is_no_image_is_told_to_the_user(url, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with browser.page() as page:
        page.goto(url)
        page.set_input_files("#file", tmp_path / "notes.txt")
        page.get_by_text("This did not work: expected one of jpeg").wait_for()
