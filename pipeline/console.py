"""Who may write on the screen: this project's own lines; the libraries' logs go to a file, unless asked for."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import NamedTuple, TextIO


class Console(NamedTuple):
    """Where a person reads, and the file with everything else; None where that is on the screen too."""

    screen: TextIO
    log: str | None


@contextlib.contextmanager
def console(verbose: bool) -> Iterator[Console]:
    """Gives the screen, and keeps others from it until the block ends.

    TensorFlow's C++ parts write straight to file descriptor 2, some before any setting of theirs is read, so that is
    what is redirected, and Python's own stream with it. The log is kept; `discard` removes it.
    """
    if verbose:
        logging.getLogger().setLevel(logging.INFO)
        yield Console(sys.stderr, None)
        return
    sys.stderr.flush()
    descriptor, log = tempfile.mkstemp(prefix="embed-images-", suffix=".log")
    original = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        with (
            os.fdopen(os.dup(original), "w", encoding="utf-8", errors="backslashreplace") as screen,
            os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1) as sink,
            contextlib.redirect_stderr(sink),
        ):
            yield Console(screen, log)
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)
        os.close(original)


def discard(console: Console) -> None:
    """Removes the log of a run that ended well."""
    if console.log:
        os.remove(console.log)  # noqa: PTH107
