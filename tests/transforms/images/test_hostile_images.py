"""Whatever Pillow refuses is no vector, and no image costs more memory or time than it is worth."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from tests.helpers import data_generation as data
from tests.helpers import hostile_images as hostile
from transforms.images import decoding, fast_jpeg
from transforms.images.resizing import RESIZE_MODES

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", hostile.seeds())
def test_what_pillow_refuses_becomes_no_vector(monkeypatch, name):
    good, rng = hostile.seeds()[name], random.Random(name)
    refused = 0
    for _ in range(200):
        broken = hostile.broken(good, rng)
        by_pillow = hostile.is_refused_by_pillow(broken)
        refused += by_pillow
        # A JPEG is decoded in full, at 1/4 and at 1/8, by simplejpeg and by Pillow.
        for size in ((400, 500), (60, 80), (28, 28)) if name.startswith(("jpeg", "mpo")) else ((60, 80),):
            for library in (fast_jpeg.simplejpeg, None):
                with monkeypatch.context() as patch:
                    patch.setattr(fast_jpeg, "simplejpeg", library)
                    try:
                        decoding.decode(broken, size)
                    except decoding.ImageError:
                        # Nor is anything refused that Pillow decodes, unless it does not see what is missing.
                        assert by_pillow or hostile.is_damaged(broken)
                    else:
                        assert not by_pillow or hostile.has_broken_metadata(broken)
    assert refused >= 20


def test_a_flipped_byte_in_the_pixels_of_a_png_is_noticed():
    images = hostile.flipped_pngs(60)
    assert len(images) == 60
    for image in images:
        with pytest.raises(decoding.CorruptImage):
            decoding.decode(image, (60, 80))


@pytest.mark.parametrize("name", ["jpeg", "png", "gif", "tiff", "bmp", "webp_lossy"])
def test_truncated_files_are_refused_whatever_another_library_allows(monkeypatch, name):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    good = hostile.seeds()[name]
    with pytest.raises(decoding.ImageError):
        decoding.decode(good[: len(good) // 2], (60, 80))


# Decodes files named by JSON on the standard input, and prints of each its outcome, seconds, and bytes of memory.
MEASURE = """
import json, sys, time, warnings
from pathlib import Path
from PIL import Image
from transforms.images import decoding

def memory(line):
    status = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return int(status[line].split()[0]) * 1024

warnings.simplefilter("ignore")
Image.init()
for name in json.loads(sys.stdin.read()):
    content = Path(name).read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, start, outcome = memory("VmRSS"), time.monotonic(), "decoded"
    try:
        decoding.decode(content, (224, 224), sys.argv[1])
    except decoding.ImageError as error:
        outcome = type(error).__name__
    print(json.dumps([outcome, time.monotonic() - start, memory("VmHWM") - before]), flush=True)
"""


def measure(directory: Path, images: dict[str, bytes], resize_mode: str) -> dict[str, tuple[str, float, int]]:
    for name, content in images.items():
        (directory / name).write_bytes(content)
    names = json.dumps([str(directory / name) for name in images])
    arguments = [sys.executable, "-c", MEASURE, resize_mode]
    done = subprocess.run(arguments, cwd=ROOT, input=names, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return dict(zip(images, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory begins anew on Linux alone")
def test_bombs_are_bounded(tmp_path):
    bombs = hostile.bombs()
    results = measure(tmp_path, {name: content for name, (content, _) in bombs.items()}, "stretch")
    assert {name: result[0] for name, result in results.items()} == {name: error for name, (_, error) in bombs.items()}
    # Seconds, on a machine that others use too. Bytes: the largest image here is a grey one of 80 million pixels.
    assert [name for name, (_, seconds, _) in results.items() if seconds > 60] == []
    assert [name for name, (_, _, bytes_) in results.items() if bytes_ > 256 << 20] == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory begins anew on Linux alone")
@pytest.mark.parametrize("resize_mode", RESIZE_MODES)
def test_lines_are_bounded(tmp_path, resize_mode):
    results = measure(tmp_path, hostile.lines(), resize_mode)
    assert {result[0] for result in results.values()} == {"decoded"}
    # Ten million pixels in a column take 40 MB, and their weights 160. A resize along the rows first would take 9 GB.
    assert [name for name, (_, _, bytes_) in results.items() if bytes_ > 384 << 20] == []


def test_a_high_line_is_resized_in_the_other_order_to_the_same_colours():
    image = data.photograph(0, 90_000, 2)
    expected = decoding._resized(image, (0, 0, 2, 90_000), (100, 100), Image.Resampling.BILINEAR)
    between = decoding._MAX_BETWEEN_PASSES
    try:
        decoding._MAX_BETWEEN_PASSES = 1
        other = decoding._resized(image, (0, 0, 2, 90_000), (100, 100), Image.Resampling.BILINEAR)
    finally:
        decoding._MAX_BETWEEN_PASSES = between
    difference = [abs(a - b) for a, b in zip(expected.tobytes(), other.tobytes(), strict=True)]
    assert max(difference) <= 1  # Pillow rounds between the passes
