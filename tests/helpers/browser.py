"""Pages in a real browser: Debian's Chromium, headless, which finds errors, requests and barriers."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_TIMEOUT_MS = 20_000


class Page:
    """A page of playwright, with what went wrong in it. Other attributes are those of the page.

    Attributes:
      errors: messages of the console, and errors of scripts.
      requests: the URLs that were asked for.
    """

    def __init__(self, page: Any):
        self._page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._page, name)

    def check(self) -> None:
        """Asserts that there was no error, and that axe-core finds no barrier."""
        axe_core = pytest.importorskip("axe_playwright_python")
        assert self.errors == []
        script = (Path(axe_core.__file__).parent / "axe.min.js").read_text()
        self._page.evaluate(script)
        violations = self._page.evaluate("axe.run()")["violations"]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations] == []


@contextlib.contextmanager
def page(**settings: object) -> Iterator[Page]:
    """Opens an empty page and closes it at the end of the block; skips the test where there is no Chromium.

    Args:
      **settings: of the browser's context, as in `color_scheme="dark"`; `width` and `height` in pixels.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    viewport = {"width": settings.pop("width", 1280), "height": settings.pop("height", 800)}
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport=viewport, **settings)
        context.set_default_timeout(_TIMEOUT_MS)
        yield Page(context.new_page())
        browser.close()
