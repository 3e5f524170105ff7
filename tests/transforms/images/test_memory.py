"""transforms.images.memory: estimates hold, large images take turns, small ones never wait, nobody is starved."""

import contextlib
import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers import data_generation as data
from tests.helpers import hostile_images as hostile
from tests.helpers import jpeg_files
from transforms.images import decoding, fast_jpeg, jpeg_header, memory, reader
from transforms.images.resizing import Resizing

ROOT = Path(__file__).parents[3]


def estimate(image: Image.Image, image_format: str, **options: object) -> float:
    """Returns the estimated bytes for each pixel of a file that is resized to one pixel."""
    encoded = data.encoded(image, image_format, **options)
    whole = (0.0, 0.0, *image.size)
    if image_format == "JPEG":
        bytes_ = memory.jpeg_bytes(header(encoded), image.size, whole, (1, 1))
    else:
        with Image.open(io.BytesIO(encoded)) as opened:
            bytes_ = memory.decoding_bytes(opened, whole, (1, 1))
    return (bytes_ - 4 * image.height - 16 * (image.width + image.height) - 20) / (image.width * image.height)


def header(encoded: bytes) -> jpeg_header.Header:
    """Returns the header of a JPEG as Pillow reads it."""
    with reader.opened(encoded) as picture:
        return picture.header


def test_estimates_follow_what_is_held():
    rgb = data.photograph(0, 160, 160)
    assert estimate(rgb, "PNG") == 4
    assert estimate(rgb.convert("L"), "PNG") == 1
    assert estimate(rgb.convert("RGBA"), "PNG") == 8  # the picture, and a copy for the resize
    assert estimate(rgb.convert("LA"), "PNG") == 8
    assert estimate(rgb, "PNG", transparency=(0, 0, 0)) == 12
    assert estimate(rgb, "JPEG") == 9
    assert estimate(rgb, "JPEG", progressive=True) == 9 + 3  # coefficients of 4:2:0
    assert estimate(rgb, "JPEG", progressive=True, subsampling=0) == 9 + 6
    assert estimate(rgb.convert("CMYK"), "JPEG", progressive=True, subsampling=0) == 9 + 8
    assert estimate(rgb, "WEBP") > estimate(rgb, "PNG")


def test_a_sequential_jpeg_in_several_scans_holds_its_coefficients():
    one = data.encoded(data.photograph(0, 160, 160), "JPEG")
    at = one.index(b"\xff\xda")
    # The first scan is of the first component alone. Its header is shorter, and so a comment keeps the length.
    several = one[:at] + b"\xff\xfe\0\x04\0\0" + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + one[at + 14 :]
    sizes = []
    for encoded in (one, several):
        sizes.append(memory.jpeg_bytes(header(encoded), (160, 160), (0, 0, 160, 160), (1, 1)))
    assert sizes[1] - sizes[0] == 3 * 160 * 160


def take(budget: memory.Budget, size: int) -> tuple[threading.Thread, threading.Event, threading.Event]:
    """Starts a thread that takes from the budget. Returns it, whether it has its turn, and what ends the turn."""
    has, end = threading.Event(), threading.Event()

    def run() -> None:
        with memory.Turn(budget) as turn:
            turn.wait(size)
            has.set()
            assert end.wait(60)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, has, end


def wait_for_queue(budget: memory.Budget, count: int) -> None:
    """Waits until as many requests are in the queue."""
    pause = threading.Event()
    for _ in range(6000):
        with budget._changed:
            if len(budget._queue) == count:
                return
        pause.wait(0.01)
    pytest.fail(f"expected {count} requests in the queue")


def test_large_requests_take_turns_in_their_order():
    budget = memory.Budget(6400)
    first, has_first, end_first = take(budget, 4000)
    assert has_first.wait(60)
    second, has_second, end_second = take(budget, 100_000)  # more than there is: once it is alone
    wait_for_queue(budget, 1)
    third, has_third, end_third = take(budget, 200)  # fits already, but does not overtake
    wait_for_queue(budget, 2)
    assert not has_second.is_set() and not has_third.is_set()
    with memory.Turn(budget) as turn:
        turn.wait(budget.free_of_charge)  # a small one does not wait, whoever else does
    end_first.set()
    assert has_second.wait(60) and not has_third.is_set()
    end_second.set()
    assert has_third.wait(60)
    end_third.set()
    for thread in (first, second, third):
        thread.join(60)
    assert budget._available == 6400 and not budget._queue


def test_a_turn_ends_with_an_error_too():
    budget = memory.Budget(6400)
    for _ in range(3):
        with pytest.raises(RuntimeError), memory.Turn(budget) as turn:
            turn.wait(6400)
            turn.wait(6400)  # it has its turn
            raise RuntimeError
    assert budget._available == 6400 and not budget._queue


def test_small_images_ask_for_nothing_that_counts(monkeypatch):
    large = Image.new("RGB", (3200, 2400))
    monkeypatch.setattr(memory.BUDGET, "take", lambda size: pytest.fail("a small image waited"))
    decoding.decode(data.encoded(large, "JPEG"), (224, 224))
    decoding.decode(data.encoded(data.photograph(0, 480, 640), "PNG"), (224, 224))
    with pytest.raises(pytest.fail.Exception, match="waited"):
        decoding.decode(data.encoded(large, "PNG"), (224, 224))


def test_a_gif_takes_no_memory_before_its_turn(monkeypatch):
    """Pillow allocates what replaces the first frame as soon as it opens the file."""
    gif = hostile.disposed_gif((8, 8), (3000, 2000))
    steps, fill = [], Image.core.fill
    monkeypatch.setattr(memory.BUDGET, "take", steps.append)
    monkeypatch.setattr(memory.BUDGET, "give_back", lambda size: None)
    monkeypatch.setattr(Image.core, "fill", lambda *arguments: steps.append(arguments) or fill(*arguments))
    with Image.open(io.BytesIO(gif)):
        assert steps.pop() == ("P", (3000, 2000), 0)
    monkeypatch.setattr(memory.BUDGET, "free_of_charge", 3000 * 2000)
    decoding.decode(gif, (8, 8))
    assert steps and isinstance(steps[0], int) and steps[0] > 3000 * 2000
    steps.clear()
    with pytest.raises(decoding.TooManyPixels):
        decoding.decode(gif, (8, 8), max_pixels=5_999_999)
    assert not steps


def test_an_image_that_does_not_fit_is_tried_alone(monkeypatch):
    tries = []

    def open_image(*args, **options):
        tries.append(memory.BUDGET._available)
        raise MemoryError

    monkeypatch.setattr(decoding.Image, "open", open_image)
    with pytest.raises(decoding.OutOfMemory, match="not enough memory to decode the image, not even alone"):
        decoding.decode(data.encoded(data.photograph(0), "PNG"), (8, 8))
    assert tries == [memory.DECODING_BYTES, 0]
    assert memory.BUDGET._available == memory.DECODING_BYTES


def test_an_image_that_fits_alone_is_decoded(monkeypatch):
    opened, right = [], Image.open

    def open_image(*args, **options):
        opened.append(args)
        if len(opened) == 1:
            raise MemoryError
        return right(*args, **options)

    monkeypatch.setattr(decoding.Image, "open", open_image)
    assert decoding.decode(data.encoded(data.photograph(0), "PNG"), (8, 8)).pixels.shape == (8, 8, 3)
    assert len(opened) == 2


def test_a_jpeg_that_fits_alone_is_decoded(monkeypatch):
    tries, right = [], fast_jpeg.decode

    def decode(*args):
        tries.append(memory.BUDGET._available)
        if len(tries) == 1:
            raise MemoryError
        return right(*args)

    monkeypatch.setattr(fast_jpeg, "decode", decode)
    assert decoding.decode(data.jpeg(), (8, 8)).pixels.shape == (8, 8, 3)
    assert tries == [memory.DECODING_BYTES, 0]


@pytest.mark.parametrize("name", ["base", "progressive", "one component in the first scan", "chroma at half width"])
@pytest.mark.parametrize("header_is_plain", [True, False])
def test_a_jpeg_asks_for_the_same_turn_whoever_reads_its_header(monkeypatch, name, header_is_plain):
    requests, encoded = [], jpeg_files.plain()[name]
    monkeypatch.setattr(memory.Turn, "wait", lambda turn, size: requests.append(size))
    if not header_is_plain:
        monkeypatch.setattr(jpeg_header, "parse", lambda encoded: None)
    with contextlib.suppress(decoding.CorruptImage):
        decoding.decode(encoded, (8, 8))
    read = header(encoded)
    reduced = Resizing().reduced(read.size, (8, 8))
    assert requests[0] == memory.jpeg_bytes(read, reduced, (0.0, 0.0, *reduced), (8, 8))


# Decodes all files of a directory by so many threads, and prints the growth of the peak memory in bytes.
DECODE = """
import concurrent.futures, json, resource, sys
from pathlib import Path
from PIL import Image
from transforms.images import decoding, memory

directory, threads, budget = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
memory.BUDGET = memory.Budget(budget)
files = [path.read_bytes() for path in sorted(Path(directory).iterdir())]
Image.init()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    results = list(pool.map(lambda file: decoding.decode(file, (224, 224)).pixels.mean(), files))
print(json.dumps({"decoded": len(results), "bytes": peak() - before}))
"""


def peak_of_decoding(directory: Path, threads: int, budget: int) -> dict[str, int]:
    arguments = [sys.executable, "-c", DECODE, directory, str(threads), str(budget)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_many_threads_with_large_images_stay_within_the_budget(tmp_path):
    images = hostile.large_images(2400)
    for copy in range(4):
        for name, encoded in images.items():
            (tmp_path / f"{copy}_{name}").write_bytes(encoded)
    budget = 128 << 20
    result = peak_of_decoding(tmp_path, 16, budget)
    assert result["decoded"] == 16
    # Without turns they take 0.8 GB. glibc keeps some of the freed memory for each of the 16 threads: measured 0.33 GB.
    assert result["bytes"] < budget + 16 * (20 << 20)
