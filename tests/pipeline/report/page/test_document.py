"""The page as a whole, also in a real browser."""

import base64
import dataclasses
import hashlib
import re

import numpy as np
import pytest

from pipeline.flags import command_lines
from pipeline.report.page import document
from pipeline.report.page.facts import FailedImage
from tests.helpers import browser, run_facts


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a run with warnings, failures, hostile names and near-duplicates, as a file."""
    facts = run_facts.facts(previous=run_facts.report(counts=run_facts.report()["counts"] | {"failed": 1}))
    facts.sample.vectors[7] = facts.sample.vectors[3]
    hostile = (f"/photos/{run_facts.HOSTILE}".encode(), *facts.sample.keys[1:])
    facts = dataclasses.replace(facts, sample=dataclasses.replace(facts.sample, keys=hostile))
    path = tmp_path_factory.mktemp("page") / "run.html"
    path.write_text(document.html(facts))
    return path


def test_the_policy_allows_what_is_in_the_page_and_nothing_else(page):
    text = page.read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    style, script = (
        re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1],
        re.findall(r"<script>(.*?)</script>", text, re.DOTALL),
    )
    digests = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, *script)]
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r'\bstyle="|\son\w+="|(?:src|href)="(?!data:|#)', text)


def test_the_order_of_the_sections(page):
    order = re.findall(r'<section id="(\w+)"', page.read_text())
    assert order == ["warnings", "failures", "images", "duplicates", "map", "time", "settings"]


def test_drift_between_two_pages():
    facts = run_facts.facts()
    before = facts.statistics
    dark = dataclasses.replace(facts.sample, brightness=70.0)
    page = document.html(dataclasses.replace(facts, sample=dark, compared_run="a", compared_statistics=before))
    assert "Drift since an earlier run" in page and "The images are darker" in page


def test_a_page_without_images():
    counts = dict.fromkeys(("listed", "embedded", "reused", "duplicate", "failed", "skipped"), 0)
    report = run_facts.report(counts=counts, failures={}, timings={}, seconds={}, phases={}, speed={}, inputs=[])
    text = document.html(run_facts.facts(report=report, sample=run_facts.sample(0), failures=()))
    assert "No image was listed." in text and 'id="map"' not in text


def test_a_page_of_one_image():
    counts = dict.fromkeys(("reused", "duplicate", "failed", "skipped"), 0) | {"listed": 1, "embedded": 1}
    report = run_facts.report(counts=counts, failures={})
    text = document.html(run_facts.facts(report=report, sample=run_facts.sample(1), failures=()))
    assert re.findall(r'<section id="(\w+)"', text) == ["warnings", "images", "time", "settings"]
    assert "1 images" not in text and 'href="#map"' not in text


def test_pictures_of_a_model_that_takes_no_squares_are_whole():
    model = run_facts.report()["model"]
    assert "background-size: contain" not in document.html(run_facts.facts())
    wide = run_facts.report(model=model | {"image_size": [32, 64]})
    assert "background-size: contain" in document.html(run_facts.facts(report=wide))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("characters", "dimension"),
    [
        pytest.param("<日", 1280, id="letters"),
        pytest.param('"', 1 << 16, id="quotes"),
        pytest.param("\U0001f600", 1280, id="emoji"),
        pytest.param("\u202e", 1280, id="direction"),
    ],
)
def test_the_page_of_a_million_images_with_long_names_is_small(characters, dimension):
    name = characters * 1500
    counts = {"listed": 10**6, "embedded": 10**6 - 10**5, "reused": 0, "duplicate": 0, "failed": 10**5, "skipped": 0}
    failures = {stage: {f"{'E' * 200}{number}": 1000 for number in range(200)} for stage in ("read", "decode", "embed")}
    sample = run_facts.sample(500, dimension)
    sample.vectors[1::2] = sample.vectors[::2]  # near-duplicates
    sample = dataclasses.replace(
        sample,
        keys=tuple(f"gs://bucket/{name}/{number}{name}".encode() for number in range(500)),
        thumbnails=tuple(np.random.default_rng(0).bytes(9_000) for _ in range(500)),
    )
    report = run_facts.report(
        counts=counts,
        failures=failures,
        inputs=[name] * 10_000,
        verdict=name * 100,
        speed={"from_s": 0, "span_s": 60.0, "images": [1000] * 120},
        model=run_facts.report()["model"] | {"dimension": dimension, "location": name, "name": name},
    )
    failed = [
        FailedImage(name.encode(), stage, error, name, True, b"x" * 5_000)
        for stage, errors in failures.items()
        for error in errors
        for _ in range(20)
    ]
    line = (name * 100)[:100_000] if name.isprintable() else "x" * 100_000
    facts = run_facts.facts(report=report, sample=sample, failures=failed, command=line, retry=line)
    page = document.html(facts)
    assert 4_900_000 < len(page.encode()) < document.MAX_BYTES
    assert page.endswith("</html>\n")
    assert page.count("background-image:url(data:image/jpeg") > 48  # those of the contact sheet


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_nothing_fails_and_nothing_leaves_the_file(page, scheme, width):
    with browser.page(color_scheme=scheme, width=width) as opened:
        opened.goto(page.as_uri())
        opened.locator("details summary").click()
        opened.check()
        assert [url for url in opened.requests if not url.startswith("data:")] == [page.as_uri()]
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.title() == "Run 20261128T224954Z-998d1cf586dd"  # the hostile name has not run
        assert opened.locator("img[src=x]").count() == 0
        assert opened.locator("#images b").first.inner_text() == run_facts.HOSTILE


@pytest.mark.slow
def test_in_a_browser_numbers_are_on_one_line_on_a_narrow_screen(tmp_path):
    phases = run_facts.report()["phases"] | {"work": 5998.0}
    report = run_facts.report(images_per_second=12345.6, elapsed_seconds=5999.0, phases=phases)
    (tmp_path / "run.html").write_text(document.html(run_facts.facts(report=report)))
    with browser.page(width=320) as opened:
        opened.goto((tmp_path / "run.html").as_uri())
        broken = """elements => elements.filter(each => {
            const lines = document.createRange();
            lines.selectNodeContents(each);
            return new Set([...lines.getClientRects()].map(line => line.top)).size > 1;
        }).map(each => each.textContent)"""
        assert opened.locator(".value, .legend b").count() > 8
        assert opened.locator(".value, .legend b").evaluate_all(broken) == []
        assert opened.evaluate("document.documentElement.scrollWidth") == 320


@pytest.mark.slow
def test_in_a_browser_the_map_answers_to_pointer_and_keys(page):
    with browser.page() as opened:
        opened.goto(page.as_uri())
        dots = opened.locator(".dot")
        dots.nth(5).hover(force=True)
        assert opened.locator("#panel-name").inner_text() == "005.jpg"
        assert opened.locator("#panel-key").inner_text() == "/photos/005.jpg"
        assert "url(" in opened.evaluate("getComputedStyle(document.getElementById('panel-picture')).backgroundImage")
        assert opened.locator("#panel-near li").count() == 5
        opened.keyboard.press("Tab")
        while opened.evaluate("document.activeElement.className.baseVal") != "dot":
            opened.keyboard.press("Tab")
        opened.keyboard.press("Home")
        assert opened.locator("#panel-name").inner_text() == run_facts.HOSTILE
        seen = set()
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
            opened.keyboard.press(key)
            seen.add(opened.locator("#panel-key").inner_text())
        assert len(seen) > 1 and opened.locator("#marks line").count() == 5
        opened.keyboard.press("Tab")
        assert opened.evaluate("document.activeElement.className.baseVal") != "dot"  # one stop for all dots


@pytest.mark.slow
def test_in_a_browser_all_dots_are_reached_by_keys(tmp_path):
    """Also those of equal images, which lie at one place."""
    sample = run_facts.sample(40)
    sample.vectors[10:20] = sample.vectors[:10]
    sample.vectors[20:24] = sample.vectors[0]
    (tmp_path / "run.html").write_text(document.html(run_facts.facts(sample=sample)))
    with browser.page() as opened:
        opened.goto((tmp_path / "run.html").as_uri())
        assert "Page Down and Page Up go through all of them." in opened.locator("#map > .note").inner_text()
        opened.locator(".dot").first.focus()
        keys = []
        for key in ["Home"] + ["PageDown"] * 41 + ["PageUp"] * 41 + ["End"]:
            opened.keyboard.press(key)
            keys.append(opened.locator("#panel-key").inner_text())
        all_keys = [key.decode() for key in sample.keys]
        there, back = [*all_keys, *all_keys[-1:] * 2], [*all_keys[-2::-1], *all_keys[:1] * 2]
        assert keys == [*there, *back, all_keys[-1]]
        opened.check()


@pytest.mark.slow
def test_in_a_browser_the_command_is_copied(page):
    with browser.page(permissions=["clipboard-read", "clipboard-write"]) as opened:
        opened.goto(page.as_uri())
        opened.locator("button[data-copy=command]").click()
        opened.get_by_text("Copied").wait_for()
        assert opened.evaluate("navigator.clipboard.readText()") == run_facts.facts().command


@pytest.mark.slow
def test_in_a_browser_a_long_command_of_hard_words_is_copied(tmp_path):
    argv = [
        "python",
        *(f"--input=/photos/{number}  \u200c\n'{number}'/*" for number in range(500)),
        "باران",
        "<b>&amp;",
    ]
    line = command_lines.join(argv)
    (tmp_path / "run.html").write_text(document.html(run_facts.facts(command=line)))
    with browser.page(permissions=["clipboard-read", "clipboard-write"]) as opened:
        opened.goto((tmp_path / "run.html").as_uri())
        opened.locator("button[data-copy=command]").click()
        opened.get_by_text("Copied").wait_for()
        assert opened.evaluate("navigator.clipboard.readText()") == line


def test_the_name_of_a_run_stays_text_in_its_title():
    page = document.html(run_facts.facts(report=run_facts.report(run_id="</title><script>1</script>")))
    assert "<title>Run &lt;/title&gt;&lt;script&gt;1&lt;/script&gt;</title>" in page
    assert page.count("<script") == document.html(run_facts.facts()).count("<script")


@pytest.mark.slow
def test_in_print_the_page_has_no_buttons(page):
    with browser.page() as opened:
        opened.goto(page.as_uri())
        opened.emulate_media(media="print")
        assert not opened.get_by_text("Point at a dot").is_visible()
        assert not opened.locator("button").first.is_visible() and opened.locator("#plane").is_visible()
        assert opened.pdf(format="A4").startswith(b"%PDF")


def test_the_name_of_a_run_stays_text():
    page = document.html(run_facts.facts(report=run_facts.report(run_id="</title><script>1</script>")))
    assert "<title>Run &lt;/title&gt;&lt;script&gt;1&lt;/script&gt;</title>" in page
