"""Interruptions: SIGINT and SIGTERM end the process within seconds, with everything stored that can be."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NoReturn

from pipeline.flags import command_lines

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM

# Storing the open parts of a bucket takes requests, which may hang. After a signal, a process has little time.
_PATIENCE_SECONDS = 3.5
_AGAIN_SECONDS = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which schedulers and containers send before they kill a process."""


@contextlib.contextmanager
def by_signals() -> Iterator[None]:
    """Lets SIGINT and SIGTERM raise an error in the main thread, again each second until `ignore_further` is called.

    Once may not be enough: an extension module may drop an error that is raised while it runs Python code, as OpenVINO
    does while it is imported. A SIGINT that is ignored stays ignored, as in a job in the background of a shell.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    error: type[KeyboardInterrupt] = KeyboardInterrupt

    def interrupt(signal_number: int, frame: FrameType | None) -> NoReturn:
        nonlocal error
        if signal_number != signal.SIGALRM:
            error = Terminated if signal_number == signal.SIGTERM else KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        raise error

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    handled = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in handled:
            signal.signal(number, before[number])


def ignore_further() -> None:
    """Ignores all signals from now on, so that the process can end in order."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def of(error: BaseException | None) -> KeyboardInterrupt | None:
    """Returns the interruption behind an error. Beam wraps it if it runs a bundle in the main thread."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def exit_code(interruption: KeyboardInterrupt) -> int:
    """Returns the exit code of a process that ends by an interruption."""
    return TERMINATED if isinstance(interruption, Terminated) else INTERRUPTED


def store(steps: Sequence[Callable[[], object]], seconds: float = _PATIENCE_SECONDS) -> None:
    """Runs steps that may fail or hang, in order, for at most this long altogether, and skips the rest."""

    def run() -> None:
        for step in steps:
            with contextlib.suppress(Exception):  # the process ends, and the next step may still succeed
                step()

    thread = threading.Thread(target=run, name="store", daemon=True)
    thread.start()
    thread.join(seconds)


def command_to_go_on(argv: Sequence[str], run_id: str) -> str:
    """Returns the command that continues a run, without --no_resume, which would remove what the run has stored."""
    argv = list(command_lines.without(argv, {"--no_resume"}))
    named = any(arg.partition("=")[0] == "--run_id" for arg in argv)
    return command_lines.join([*command_lines.program(), *argv, *(() if named else ("--run_id", run_id))])


def leave_what_runs(code: int) -> None:
    """Ends the process at once if the interrupted call of a model still runs. It may never return."""
    interruptible = sys.modules.get("transforms.models.engines.interruptible")
    if interruptible and interruptible.is_running():
        leave(code)


def leave(code: int) -> NoReturn:
    """Writes what was printed, and ends the process at once.

    An ordinary exit would wait for worker threads, or abort when one of them comes back from C++.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(code)
