"""pipeline.commands.frame: exit codes, and errors in one line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.commands import frame
from pipeline.flags import command_lines


@pytest.fixture(autouse=True)
def log_directory(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def run(argv, work):
    flags = frame.parser("count-images", "Counts images.", "  python -m pipeline count-images --most 3")
    flags.add_argument("--most", type=int, default=7)
    return frame.run(flags, argv, work)


def test_what_the_work_returns_is_printed(capfd, log_directory):
    assert run(["--most=3"], lambda given: f"{given.most} images") == frame.DONE == 0
    assert capfd.readouterr() == ("3 images\n", "") and not list(log_directory.iterdir())


def test_work_that_ends_in_a_failure_prints_its_text(capfd, log_directory):
    assert run([], lambda args: ("7 images, 2 of them broken", frame.FAILED)) == frame.FAILED == 1
    assert capfd.readouterr() == ("7 images, 2 of them broken\n", "") and not list(log_directory.iterdir())


@pytest.mark.parametrize("argv", [["--most=all"], ["--mos=3"], ["stray"]], ids=" ".join)
def test_a_wrong_flag_is_one_line_and_nothing_is_done(capfd, argv):
    def work(_):
        raise AssertionError("worked")

    assert run(argv, work) == frame.WRONG == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("count-images: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("most=0:\n  expected more"), "most=0: expected more"),
        (FileNotFoundError(2, "No such file", "a.jpg"), "[Errno 2] No such file: 'a.jpg'"),
        (ValueError(), "ValueError"),
    ],
    ids=["several lines", "file", "no message"],
)
def test_an_error_of_the_users_is_one_line(capfd, log_directory, error, said):
    def work(_):
        raise error

    assert run([], work) == frame.WRONG
    assert capfd.readouterr() == ("", f"count-images: {said}\n") and not list(log_directory.iterdir())


def test_verbose_shows_the_traceback(capfd):
    def work(_):
        raise ValueError("expected more")

    assert run(["--verbose"], work) == frame.WRONG
    err = capfd.readouterr().err
    assert err.startswith("Traceback") and err.endswith("\ncount-images: expected more\n")


def test_any_other_error_is_a_bug_and_is_raised():
    def work(_):
        raise KeyError("most")

    with pytest.raises(KeyError):
        run([], work)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_nothing_half_done(capfd, number, code):
    def work(_):
        signal.raise_signal(number)

    assert run([], work) == code
    assert capfd.readouterr() == ("", "count-images: interrupted: nothing half-done is left\n")


_PRINTS = """
import sys
from pipeline.commands import frame
flags = frame.parser("count-images", "Counts images.", "")
sys.exit(frame.run(flags, [], lambda args: ("image" * {length}, {code})))
"""


@pytest.mark.slow
@pytest.mark.parametrize("code", [frame.DONE, frame.FAILED])
@pytest.mark.parametrize("length", [1, 10**6], ids=["fits into the buffer", "is longer than it"])
def test_a_reader_that_has_gone_ends_the_command_quietly(length, code):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        script = _PRINTS.format(length=length, code=code)
        root = Path(__file__).parents[3]
        done = subprocess.run([sys.executable, "-c", script], stdout=stdout, stderr=subprocess.PIPE, cwd=root)
    assert (done.returncode, done.stderr) == (code, b"")


def test_help_has_the_examples_as_they_are_written(capfd):
    with pytest.raises(SystemExit) as ended:
        run(["--help"], str)
    out = capfd.readouterr().out
    assert ended.value.code == 0
    assert out.startswith("usage: python -m pipeline count-images ")
    assert "\nexamples:\n  python -m pipeline count-images --most 3\n" in out


_WORKS = """
import os, sys
from pipeline.commands import frame
def work(args):
    with open(args.file, "w") as file:  # gets the first descriptor that is free
        os.write(1, b"from C") if args.prints else None
        file.write(str(file.fileno()))
    return "9 im\\u00e9ges\\u3164", int(args.code)
flags = frame.parser("count-images", "Counts images.", "")
for flag in ("--file", "--code", "--only_shows", "--prints"):
    flags.add_argument(flag)
sys.exit(frame.run(flags, None, work, only_shows="--only_shows=yes" in sys.argv))
"""
_UNWRITABLE = "count-images: stdout cannot be written: [Errno {}\n"
_FULL, _CLOSED = (_UNWRITABLE.format(why) for why in ("28] No space left on device", "9] Bad file descriptor"))
_ASCII = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}


def started(tmp_path, redirected, *flags, **variables):
    """Runs a command of its own by a shell, and returns its exit code, its stdout, its stderr."""
    script = tmp_path / "count_images.py"
    script.write_text(_WORKS)
    line = command_lines.join([sys.executable, str(script), f"--file={tmp_path / 'file'}", *flags])
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **variables}
    done = subprocess.run(["bash", "-c", f"{line} {redirected}"], capture_output=True, env=env, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.slow
@pytest.mark.parametrize("code", [frame.DONE, frame.FAILED])
@pytest.mark.parametrize(
    ("redirected", "said"),
    [(">/dev/full", _FULL), (">&-", _CLOSED), ("2>&-", ""), (">&- 2>&-", ""), (">&- <&-", _CLOSED)],
)
def test_a_stream_that_takes_nothing_leaves_the_exit_code(tmp_path, redirected, said, code):
    expected = "9 iméges\\u3164\n" if redirected == "2>&-" else ""
    assert started(tmp_path, redirected, f"--code={code}") == (code, expected, said)
    assert int((tmp_path / "file").read_text()) > 2  # no stream of the process's


@pytest.mark.slow
@pytest.mark.parametrize(("redirected", "said"), [(">/dev/full", _FULL), (">&-", _CLOSED)])
def test_a_command_that_only_shows_a_text_fails_without_a_stdout(tmp_path, redirected, said):
    assert started(tmp_path, redirected, "--code=0", "--only_shows=yes") == (frame.FAILED, "", said)
    help_said = said.replace("count-images", "python -m pipeline count-images")
    assert started(tmp_path, redirected, "--help") == (frame.FAILED, "", help_said)


@pytest.mark.slow
def test_a_wrong_flag_without_a_stderr_is_still_wrong(tmp_path):
    for redirected in ("2>&-", "2>/dev/full"):
        assert started(tmp_path, redirected, "--stray") == (frame.WRONG, "", "")


@pytest.mark.slow
def test_what_a_terminal_lacks_is_an_escape(tmp_path):
    assert started(tmp_path, "", "--code=0", **_ASCII) == (0, "9 im\\u00e9ges\\u3164\n", "")


@pytest.mark.slow
def test_what_libraries_print_on_a_closed_stdout_gets_into_no_file(tmp_path):
    assert started(tmp_path, ">&-", "--code=0", "--prints=yes")[0] == frame.WRONG  # EBADF, as on a closed stream
    assert "from C" not in (tmp_path / "file").read_text()
