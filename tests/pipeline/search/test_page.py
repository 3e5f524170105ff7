"""The pages: their text is escaped, and in a real browser one drops an image, sees its neighbours and clicks on."""

import shutil
from pathlib import Path

import pytest

from pipeline.search import page
from pipeline.search.nearest import Neighbour
from tests import browser
from tests import data_generation as data

HOSTILE = "<img src=x onerror=alert(1)>.jpg"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("in") / "photos"
    data.write_images(directory, 3, height=60, width=80)
    shutil.copy(directory / "00002.jpg", directory / HOSTILE)
    return directory


@pytest.fixture
def url(server) -> str:
    return server.url


@pytest.mark.parametrize("character", ["\u202e", "\0", "\n", "\u2028"], ids=ascii)
def test_what_would_hide_or_reorder_a_name_is_shown(character):
    text = page.result(f"a{character}b.jpg".encode(), [Neighbour(f"/none/c{character}d.jpg".encode(), 0.5)])
    assert f"a{character}b" not in text and f"c{character}d" not in text
    assert f"a{ascii(character)[1:-1]}b.jpg" in text and "no picture" in text


def test_a_result_allows_no_script_and_no_request():
    text = page.result(b"<script>", [])
    assert "<script" not in text and "default-src 'none'; img-src data:; style-src 'sha256-" in text


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_drop_an_image_and_click_on(url, photos, scheme):
    with browser.page(color_scheme=scheme, width=390, height=844) as shown:
        shown.goto(url)
        shown.get_by_role("button", name="00001.jpg").wait_for()
        assert shown.locator(".card").count() == 4
        shown.set_input_files("#file", photos / "00001.jpg")
        shown.get_by_role("heading", name="Neighbours of 00001.jpg").wait_for()
        assert shown.locator(".card").first.inner_text().splitlines() == ["00001.jpg", "cosine 1.0000"]
        shown.get_by_role("button", name=HOSTILE).press("Enter")
        shown.get_by_role("heading", name=f"Neighbours of {HOSTILE}").wait_for()
        assert shown.locator(".card").first.inner_text().splitlines() == ["00002.jpg", "cosine 1.0000"]
        assert shown.evaluate("document.documentElement.scrollWidth") == 390
        shown.check()


@pytest.mark.slow
def test_what_is_no_image_is_told_to_the_user(url, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with browser.page() as shown:
        shown.goto(url)
        shown.set_input_files("#file", tmp_path / "notes.txt")
        shown.get_by_text("This did not work: expected one of jpeg").wait_for()
