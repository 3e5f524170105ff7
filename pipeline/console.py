"""The screen shows only this project's own lines. The logs of libraries go to a file, unless --verbose shows them."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO


class Console(NamedTuple):
    """The screen, and the file that collects all other output; None if that goes to the screen too."""

    screen: TextIO
    log: str | None


@contextlib.contextmanager
def console(verbose: bool) -> Iterator[Console]:
    """Gives the screen, and redirects all other output to a log until the block ends.

    TensorFlow's C++ code writes straight to file descriptor 2, in part before it reads any setting. This function
    therefore redirects the descriptor, and Python's own stream with it. The log stays until `discard` removes it.
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
            os.fdopen(os.dup(original), "w", encoding="utf-8", errors="backslashreplace", buffering=1) as screen,
            os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1) as sink,
            contextlib.redirect_stderr(sink),
        ):
            yield Console(screen, log)
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)
        os.close(original)


def write_line(stream: TextIO, text: str) -> None:
    """Writes a text and the end of its line. If the reader has left, as `head` does, the rest is dropped.

    Raises:
      OSError: if the stream cannot be written, as on a full disk. What is written to it later is dropped.
    """
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        # Python flushes the stream again when it ends, and would fail then.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            raise


def discard(console: Console) -> None:
    """Removes the log, when nobody needs it any more."""
    if console.log:
        os.remove(console.log)  # noqa: PTH107
