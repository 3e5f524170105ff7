"""The screen shows only this project's own lines. The logs of libraries go to a file, unless --verbose shows them.

Everything that is written here is text that a person sees: a character that cannot be seen, or that the terminal's
encoding lacks, is written as an escape.
"""

import codecs
import contextlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from transforms.elements.one_line import escape, one_line, printable_lines

# The prefix of a line that redraws itself on a terminal.
REDRAW = "\r\x1b[K"


class Console(NamedTuple):
    """The screen, and the file that collects all other output; None if that goes to the screen too."""

    screen: TextIO
    log: str | None


def open_streams() -> None:
    """Opens the standard streams that the process was started without, as by `2>&-`.

    Otherwise the next file that is opened would have the number of such a stream, and get what libraries print there.
    Writing to the closed stdout stays an error. An error on stderr could not be reported.
    """
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest number that is free
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


@contextlib.contextmanager
def console(verbose: bool) -> Iterator[Console]:
    """Yields the screen, and redirects all other output to a log until the block ends.

    TensorFlow's C++ code writes straight to file descriptor 2, in part before it reads any setting. This function
    therefore redirects the descriptor, and Python's own stream with it. The log stays until `discard` removes it. A
    screen that cannot be written, as on a full disk, is no error.
    """
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    if verbose:
        logging.getLogger().setLevel(logging.INFO)
        sys.stderr.flush()
        with _Text(os.dup(2), encoding) as screen:
            yield Console(screen, None)
        return
    sys.stderr.flush()
    descriptor, log = tempfile.mkstemp(prefix="embed-images-", suffix=".log")
    original = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        with (
            _Text(os.dup(original), encoding) as screen,
            _Text(descriptor, "utf-8") as sink,
            contextlib.redirect_stderr(sink),
        ):
            yield Console(screen, log)
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)
        os.close(original)


class _Text(io.TextIOWrapper):
    """A stream for people, written line by line. What cannot be written is dropped."""

    def __init__(self, descriptor: int, encoding: str):
        file = io.BufferedWriter(_Lenient(descriptor, "w"))
        super().__init__(file, encoding, errors=_ESCAPED, line_buffering=True)

    def write(self, text: str) -> int:
        """Writes a text as people see it. A line that redraws itself begins with REDRAW."""
        redraw = REDRAW if text.startswith(REDRAW) else ""
        return super().write(redraw + printable_lines(text.removeprefix(REDRAW)))


class _Lenient(io.FileIO):
    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError:
            return memoryview(content).nbytes


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Returns escapes for characters that an encoding lacks, and where to continue. See `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(escape, error.object[error.start : error.end])), error.end


_ESCAPED = "embed-images-escaped"
codecs.register_error(_ESCAPED, _escaped)


def write_line(stream: TextIO, text: str) -> None:
    """Writes a text for people and the end of its line. If the reader has left, as `head` does, the rest is dropped.

    Raises:
      OSError: if the stream cannot be written, as on a full disk. What is written to it later is dropped.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        print(printable_lines(text).encode(encoding, _ESCAPED).decode(encoding), file=stream, flush=True)
    except OSError as error:
        # Python flushes the stream again when it ends, and would fail then.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            raise


def unwritable(error: OSError) -> str:
    """Returns the message for a stdout that cannot be written."""
    return f"stdout cannot be written: {one_line(error)}"


def say(line: str) -> None:
    """Writes a line to stderr, before there is a console. An error in writing is ignored."""
    with contextlib.suppress(OSError):
        write_line(sys.stderr, line.removesuffix("\n"))


def discard(console: Console) -> None:
    """Removes the log once it is no longer needed."""
    if console.log:
        os.remove(console.log)  # noqa: PTH107
