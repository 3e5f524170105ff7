"""pipeline.attempts.interruption: signals become errors, and the command to go on is one that a shell takes."""

import os
import shlex
import signal
import sys
import threading
import time
import types

import pytest

from pipeline.attempts import interruption
from pipeline.attempts.interruption import INTERRUPTED, TERMINATED, Terminated

HANDLED = signal.SIGINT, signal.SIGTERM, signal.SIGALRM
BY_SIGNAL = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]


def handlers():
    return [signal.getsignal(number) for number in HANDLED]


@pytest.mark.parametrize(("number", "error"), BY_SIGNAL)
def test_a_signal_interrupts_in_the_block_and_not_after_it(number, error):
    before = handlers()
    with pytest.raises(error) as raised, interruption.by_signals():
        os.kill(os.getpid(), number)
        time.sleep(30)  # the signal ends it
    assert type(raised.value) is error
    assert handlers() == before


@pytest.mark.parametrize(("number", "error"), BY_SIGNAL)
def test_an_error_that_is_dropped_comes_again(monkeypatch, number, error):
    """Python itself drops an error in `__del__`, as an extension module may while it runs Python code."""
    monkeypatch.setattr(interruption, "_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: dropped.append(error))
    dropped = []

    class Dropping:
        def __del__(self):
            os.kill(os.getpid(), number)
            time.sleep(30)

    with pytest.raises(error) as raised, interruption.by_signals():
        for _ in range(3):
            Dropping()
        time.sleep(30)
    assert type(raised.value) is error and len(dropped) == 3


def test_no_signal_disturbs_a_process_that_ends(monkeypatch):
    monkeypatch.setattr(interruption, "_AGAIN_SECONDS", 0.01)
    before = handlers()
    with interruption.by_signals():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        interruption.ignore_further()
        for number in HANDLED:
            signal.raise_signal(number)
        time.sleep(0.1)  # the error would come again
    assert handlers() == before


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruption.by_signals():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_handles_no_signal():
    before, seen = handlers(), []

    def run():
        with interruption.by_signals():
            interruption.ignore_further()
            seen.extend(handlers())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == before


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, Terminated])
@pytest.mark.parametrize("depth", range(3))
def test_an_interruption_behind_other_errors(interrupt, depth):
    def fail(depth):
        if depth == 0:
            raise interrupt
        try:
            fail(depth - 1)
        except BaseException as error:
            if depth == 1:
                raise RuntimeError("bundle failed") from error
            raise RuntimeError("job failed")  # noqa: B904 - as an error in a handler has it as its context

    with pytest.raises((RuntimeError, KeyboardInterrupt)) as raised:
        fail(depth)
    interrupted = interruption.of(raised.value)
    assert type(interrupted) is interrupt
    assert interruption.exit_code(interrupted) == (TERMINATED if interrupt is Terminated else INTERRUPTED)


def test_an_interruption_is_behind_an_error_that_is_raised_after_its_block():
    error = ValueError()
    error.__cause__ = KeyboardInterrupt()  # which is then not its context
    assert interruption.of(error) is error.__cause__


def test_other_errors_are_no_interruption():
    assert interruption.of(None) is interruption.of(ValueError()) is None
    assert (INTERRUPTED, TERMINATED) == (128 + signal.SIGINT, 128 + signal.SIGTERM)


def test_steps_run_in_order_and_one_that_fails_stops_no_other():
    done = []

    def fail():
        raise OSError("no bucket")

    interruption.store([lambda: done.append(1), fail, lambda: done.append(2)])
    assert done == [1, 2]


def test_a_step_that_hangs_is_left(monkeypatch):
    hanging = threading.Event()
    interruption.store([hanging.wait], 0.05)
    hanging.set()


@pytest.mark.parametrize("named", [("--run_id", "night"), ("--run_id=night",)])
def test_the_command_to_go_on_with_a_named_run(named):
    argv = ["--input", "photos of 'mine'/*.jpg", *named]
    assert shlex.split(interruption.command_to_go_on(argv, "night")) == ["python", "run_pipeline.py", *argv]


@pytest.mark.parametrize("switch", [["--no_resume"], ["--no_resume", "true"], ["--no_resume=True"]], ids=str)
def test_the_command_to_go_on_does_not_begin_anew(switch):
    line = interruption.command_to_go_on(["--input", "a", *switch, "--output=o"], "r")
    assert shlex.split(line) == ["python", "run_pipeline.py", "--input", "a", "--output=o", "--run_id", "r"]


def test_the_command_to_go_on_names_the_run():
    argv = ["--input", "*.jpg", "--output=a b"]
    line = interruption.command_to_go_on(argv, "20261121T010203Z-0123")
    assert shlex.split(line) == ["python", "run_pipeline.py", *argv, "--run_id", "20261121T010203Z-0123"]


@pytest.mark.slow
def test_a_process_ends_within_seconds_whatever_hangs(monkeypatch):
    """Docker kills ten seconds after SIGTERM, and the thread that hangs keeps no interpreter alive."""
    assert 1 <= interruption._PATIENCE_SECONDS <= 5
    monkeypatch.setattr(interruption, "_PATIENCE_SECONDS", 0.05)
    hanging = threading.Event()
    interruption.store([hanging.wait])
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "store")
    assert thread.daemon
    hanging.set()
    thread.join()


def test_what_was_printed_is_written_before_the_process_ends(monkeypatch):
    done = []

    class Stream:
        def __init__(self, name, error=None):
            self.name, self.error = name, error

        def flush(self):
            done.append(self.name)
            if self.error:
                raise self.error

    monkeypatch.setattr(sys, "stdout", Stream("stdout", BrokenPipeError()))
    monkeypatch.setattr(sys, "stderr", Stream("stderr"))
    monkeypatch.setattr(os, "_exit", done.append)
    interruption.leave(130)
    assert done == ["stdout", "stderr", 130]


def test_no_alarm_comes_after_the_block():
    with pytest.raises(KeyboardInterrupt), interruption.by_signals():
        signal.raise_signal(signal.SIGINT)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("is_running", [False, True])
def test_a_process_is_left_at_once_only_if_a_model_goes_on(monkeypatch, is_running):
    left = []
    module = types.SimpleNamespace(is_running=lambda: is_running)
    monkeypatch.setitem(sys.modules, "transforms.models.engines.interruptible", module)
    monkeypatch.setattr(interruption, "leave", left.append)
    interruption.leave_what_runs(130)
    assert left == ([130] if is_running else [])
