"""Calls of a model that the main thread waits for, and that Ctrl-C and SIGTERM nevertheless interrupt.

Python handles a signal in the main thread, and only between its own instructions. A model may compute for ever in C++,
so another thread calls it.
"""

import concurrent.futures
import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

from transforms.models import checked_copy

_SECONDS_BETWEEN_SIGNALS = 0.2
_PATIENCE_SECONDS = 0.5

_Result = TypeVar("_Result")
_interrupted: list[threading.Thread] = []


def call(work: Callable[[], _Result]) -> _Result:
    """Returns what `work` returns, or raises its error. In the main thread, another thread does the work.

    A signal's error in the main thread ends the wait. It also ends the work, as soon as the work runs Python. Work in
    C++ continues as long as the process, which then has to end by `os._exit`: see `is_running`.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    outcome: concurrent.futures.Future[_Result] = concurrent.futures.Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised in the main thread
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="model", daemon=True)
    try:
        thread.start()
        while not outcome.done():  # a signal that another thread gets does not end the wait of this one
            concurrent.futures.wait([outcome], _SECONDS_BETWEEN_SIGNALS)
        thread.join()  # if the process ends while the thread takes its last steps, Python aborts
        return outcome.result()
    finally:
        if not outcome.done():
            _interrupted.append(thread)
            checked_copy.remove_all()
            _interrupt(thread)


def _interrupt(thread: threading.Thread) -> None:
    """Raises an error in a thread, between two Python instructions, and waits a moment for the thread to end."""
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))
        thread.join(_PATIENCE_SECONDS)


def is_running() -> bool:
    """Returns whether interrupted work is still running."""
    return any(thread.is_alive() for thread in _interrupted)
