"""The picture of a page in the README: `python -m docs.page_picture` embeds the samples, and writes docs/page.png.

It needs the requirements of the tests, and Chromium.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "page.png"
_WIDTH, _HEIGHT = 1120, 1250
_COLOURS = 128


def main() -> int:
    """Writes the picture and returns the exit code."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "run_pipeline.py", "--output", scratch, "--run_id", "samples"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)  # noqa: S603 - this project's own
        with sync_playwright() as started:
            browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT}, color_scheme="light")
            page.goto(Path(scratch, "runs", "samples.html").as_uri())
            page.screenshot(path=Path(scratch, "page.png"))
            browser.close()
        with Image.open(Path(scratch, "page.png")) as picture:
            picture.convert("RGB").quantize(_COLOURS).save(PICTURE, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
