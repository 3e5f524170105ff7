"""pipeline.runners.progress: what is said, and how on a terminal and elsewhere."""

import io

from pipeline.runners import progress
from pipeline.runners.progress import Progress
from transforms.elements import counters


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def show(total_is_listed=True):
    """Returns a Progress with a clock and counters to set."""
    clock, counted = Clock(), {}
    return Progress(lambda: counted, io.StringIO(), total_is_listed=total_is_listed, clock=clock), clock, counted


def test_done_of_listed_speed_failures_and_time_left():
    shown, clock, counted = show()
    assert shown.line() == "starting, 0 s"
    clock.now += 5
    counted[counters.IMAGES_LISTED] = 1000
    assert shown.line() == "starting, 5 s, 1000 images listed"
    counted[counters.IMAGES_EMBEDDED] = 100
    assert shown.line() == "100 of 1000 images, 0 failed"
    clock.now += 10
    counted[counters.IMAGES_EMBEDDED] = 290
    counted[counters.IMAGES_FAILED] = 10
    # 200 more in 10 s; the 5 s before the first batch do not count.
    assert shown.line() == "300 of 1000 images, 20.0 images/s, 10 failed, 35 s left"


def test_what_needs_no_inference_is_done_too():
    shown, clock, counted = show()
    counted |= {counters.IMAGES_LISTED: 1000, counters.IMAGES_SKIPPED: 500}
    assert shown.line() == "500 of 1000 images, 0 failed"
    clock.now += 10
    counted |= {counters.IMAGES_REUSED: 20, counters.IMAGES_DUPLICATE: 30, counters.IMAGES_EMBEDDED: 20}
    counted |= {counters.IMAGES_FAILED: 10, counters.IMAGES_RESUMED: 20}
    assert shown.line() == "600 of 1000 images, 10.0 images/s, 10 failed, 40 s left"


def test_without_a_total_there_is_no_time_left():
    shown, clock, counted = show(total_is_listed=False)
    counted |= {counters.IMAGES_LISTED: 64, counters.IMAGES_EMBEDDED: 32}
    shown.line()
    clock.now += 2
    counted[counters.IMAGES_EMBEDDED] = 64
    assert shown.line() == "64 images, 16.0 images/s, 0 failed"


def test_durations_have_two_units():
    assert [progress._duration(s) for s in (0, 59.4, 61, 3599.6, 7325)] == [
        "0 s",
        "59 s",
        "1 min 01 s",
        "1 h 00 min",
        "2 h 02 min",
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(screen, monkeypatch):
    monkeypatch.setattr(progress, "_TERMINAL_SECONDS", 0.01)
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.01)
    counted = {counters.IMAGES_LISTED: 3, counters.IMAGES_EMBEDDED: 1}
    with Progress(lambda: counted, screen, total_is_listed=True):
        for _ in range(500):
            if screen.getvalue().count("of 3 images") >= 2:
                break
            progress.time.sleep(0.01)
    return screen.getvalue()


def test_a_terminal_line_renews_itself_and_is_gone_at_the_end(monkeypatch):
    text = run(Terminal(), monkeypatch)
    assert "\n" not in text and text.startswith("\r\x1b[K1 of 3 images") and text.endswith("\r\x1b[K")


def test_elsewhere_there_are_plain_lines(monkeypatch):
    text = run(io.StringIO(), monkeypatch)
    assert "\r" not in text and all(line.startswith("1 of 3 images") for line in text.splitlines())
