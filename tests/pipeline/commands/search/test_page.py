"""The pages: their text is escaped, and in a real browser one drops an image, sees its neighbours and clicks on."""

import shutil
import threading
from html import escape
from pathlib import Path

import pytest

from pipeline.commands.search import page
from pipeline.commands.search.nearest import Neighbour
from tests.helpers import browser, outputs
from tests.helpers import data_generation as data

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
    text = page.result(f"a{character}b.jpg".encode(), [Neighbour(f"/none/c{character}d.jpg".encode(), 0.5)], ())
    assert f"a{character}b" not in text and f"c{character}d" not in text
    assert f"a{ascii(character)[1:-1]}b.jpg" in text and "no picture" in text


def test_names_are_escaped_wherever_a_result_shows_them():
    image = '<b title="a&b">\'.jpg'
    text = page.result(f"/query/{image}".encode(), [Neighbour(f"/neighbour/{image}".encode(), 0.5)], ())
    title, heading, card, name = (
        f"<title>Neighbours of {escape(f'/query/{image}')}</title>",
        f"<h1>Neighbours of {escape(f'/query/{image}')}</h1>",
        f'title="{escape(f"/neighbour/{image}")}"',
        f'<span class="name">{escape(image)}</span>',
    )
    assert all(part in text for part in (title, heading, card, name)) and "<b" not in text.partition("<body>")[2][3:]


def test_the_searching_page_asks_its_own_server_alone():
    sources = [directive.split() for directive in page.POLICY.split("; ")]
    assert [directive for directive in sources if directive[0] in ("default-src", "connect-src", "img-src")] == [
        ["default-src", "'none'"], ["img-src", "'self'", "blob:", "data:"], ["connect-src", "'self'"],
    ]  # fmt: skip
    assert not {"*", "http:", "https:"} & {source for directive in sources for source in directive}


def test_a_result_allows_no_script_and_no_request():
    text = page.result(b"<script>", [], ())
    assert "<script" not in text and "default-src 'none'; img-src data:; style-src 'sha256-" in text


def test_only_what_was_listed_as_a_file_is_opened(photos):
    """Whoever wrote a shard chose its keys, and may have chosen the names of files."""
    names = [bytes(photos / f"0000{number}.jpg") for number in range(2)]
    text = page.result(b"/query.jpg", [Neighbour(key, 0.5) for key in names], names[:1])
    assert text.count("data:image/jpeg") == text.count("no picture") == 1


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
        shown.locator("#picture").wait_for()
        assert shown.locator("#file").input_value() == ""  # so the same file can be chosen again
        shown.get_by_role("button", name=HOSTILE).press("Enter")
        shown.get_by_role("heading", name=f"Neighbours of {HOSTILE}").wait_for()
        assert shown.locator(".card").first.inner_text().splitlines() == ["00002.jpg", "cosine 1.0000"]
        shown.locator("#picture").wait_for()
        assert shown.evaluate("document.documentElement.scrollWidth") == 390
        shown.check()


@pytest.mark.slow
@pytest.mark.parametrize(("content", "reason"), [("no image", "expected one of jpeg"), ("", "the file is empty")])
def test_what_is_no_image_is_told_to_the_user(url, tmp_path, content, reason):
    (tmp_path / "notes.txt").write_text(content)
    with browser.page() as shown:
        shown.goto(url)
        shown.set_input_files("#file", tmp_path / "notes.txt")
        shown.get_by_text(f"This did not work: {reason}").wait_for()


@pytest.mark.slow
def test_an_image_without_a_picture_has_its_name_alone(start, tmp_path):
    outputs.write_run(tmp_path, [outputs.embedding(b"/photos/s.tar#%d.jpg" % number, number) for number in range(3)])
    with browser.page() as shown:
        shown.goto(start(tmp_path, None).url)
        shown.get_by_role("button", name="s.tar#1.jpg").click()
        shown.get_by_role("heading", name="Neighbours of s.tar#1.jpg").wait_for()
        assert shown.locator("#picture").is_hidden()
        shown.locator(".card").first.get_by_text("no picture").wait_for()


@pytest.mark.slow
def test_a_late_answer_does_not_replace_a_newer_one(start, photos, tmp_path):
    outputs.write_run(tmp_path, [outputs.embedding(b"/photos/%d.jpg" % number, number) for number in range(3)])
    asked, is_late = threading.Event(), threading.Event()

    def embed(_):
        asked.set()
        is_late.wait()
        return outputs.embedding(b"", 0).vector

    settled = []
    with browser.page() as shown:
        for event in ("requestfinished", "requestfailed"):
            shown.on(event, lambda request: settled.append(request.url) if request.method == "POST" else None)
        shown.goto(start(tmp_path, embed).url)
        shown.set_input_files("#file", photos / "00001.jpg")
        asked.wait()
        shown.get_by_role("button", name="2.jpg").click()
        shown.get_by_role("heading", name="Neighbours of 2.jpg").wait_for()
        is_late.set()
        while not settled:
            shown.evaluate("new Promise(requestAnimationFrame)")
        shown.evaluate("new Promise(requestAnimationFrame)")
        assert shown.locator("h1").inner_text() == "Neighbours of 2.jpg"
        assert shown.locator("#message").inner_text() == "the nearest of 3 images"
