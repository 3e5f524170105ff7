"""runners.console: the screen is this project's; what libraries write, by stream or descriptor, is the log's."""

import logging
import os
import sys
from pathlib import Path

import pytest

from pipeline.runners.console import REDRAW, console, discard


@pytest.fixture
def log_directory(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_only_what_is_written_on_the_screen_is_seen(log_directory, capfd):
    before = sys.stderr
    with console(verbose=False) as shown:
        os.write(2, b"from C++\n")
        sys.stderr.write("from Python \udcff\n")
        shown.screen.write("a line \udcff for a person\n")
    os.write(2, b"after\n")
    assert sys.stderr is before
    out, err = capfd.readouterr()
    assert (out, err) == ("", "a line \\xff for a person\nafter\n")
    assert Path(shown.log).parent == log_directory
    assert Path(shown.log).read_text().splitlines() == ["from C++", "from Python \\xff"]
    discard(shown)
    assert not list(log_directory.iterdir())


def test_after_an_error_the_screen_is_everybodys_again_and_the_log_is_kept(log_directory, capfd):
    with pytest.raises(ZeroDivisionError), console(verbose=False):
        os.write(2, b"why\n")
        raise ZeroDivisionError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
    (log,) = log_directory.iterdir()
    assert log.read_text() == "why\n"


def test_verbose_there_is_no_log(log_directory, capfd):
    level = logging.getLogger().level
    try:
        with console(verbose=True) as shown:
            assert logging.getLogger().level == logging.INFO
            assert shown.log is None
            shown.screen.write("a line \x1b\n")
            os.write(2, b"from C++\n")
    finally:
        logging.getLogger().setLevel(level)
    discard(shown)
    assert capfd.readouterr().err == "a line \\x1b\nfrom C++\n" and not list(log_directory.iterdir())


def test_only_a_line_that_redraws_itself_moves_the_cursor(log_directory, capfd):
    with console(verbose=False) as shown:
        shown.screen.write(f"{REDRAW}a \x1b[31m\u3164{REDRAW}")
    assert capfd.readouterr().err == f"{REDRAW}a \\x1b[31m\\u3164\\r\\x1b[K"


def test_a_screen_that_cannot_be_written_is_no_error(log_directory, monkeypatch):
    full, before = os.open("/dev/full", os.O_WRONLY), os.dup(2)
    os.dup2(full, 2)
    try:
        with console(verbose=False) as shown:
            shown.screen.write("a line\n")
            shown.screen.flush()
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(full)
