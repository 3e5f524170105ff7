import io

import pytest

from pipeline.commands.export.progress_line import ProgressLine


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return [0.0]


def test_a_terminal_shows_rate_and_time_left(clock):
    screen = Terminal()
    progress = ProgressLine(screen, "sending", 3_000, lambda: clock[0])
    clock[0] = 0.1
    progress.show(100)
    clock[0] = 1.0
    progress.show(1_000)
    progress.clear()
    assert screen.getvalue() == "\r\x1b[Ksending 1,000 of 3,000 rows, 1,000 rows/s, 2 s left\r\x1b[K"


def test_elsewhere_it_writes_a_line_each_half_minute(clock):
    screen = io.StringIO()
    progress = ProgressLine(screen, "reading", None, lambda: clock[0])
    for second in range(61):
        clock[0] = float(second)
        progress.show(second * 10)
        progress.say("building the index")
    progress.clear()
    assert screen.getvalue() == "reading 300 rows, 10 rows/s\nreading 600 rows, 10 rows/s\n"
