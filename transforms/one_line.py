"""Errors and names as one line of text for people."""

import re

MAX_CHARACTERS = 2000

# Parts of an error of TensorFlow's that name nodes of the graph, and lines that tell where the graph was built.
_TENSORFLOW_NODE = re.compile(r"\[\[\{\{.*?\}\}\]\]|\{\{(?:function_)?node .*?\}\}|\[Op:[^\]]*\]")
_TENSORFLOW_PLACE = re.compile(
    r"Graph execution error:|Detected at node .*|<stack traces unavailable>|\d+ root error\(s\) found\.|"
    r'File ".*", line \d+, in \S+'
)


def one_line(error: BaseException, max_characters: int = MAX_CHARACTERS) -> str:
    """Returns the first line of an error's message that is not empty, or the name of its class if there is none.

    Beam's filesystems and urllib wrap the error that matters, so the message of the wrapped error is used. If a message
    quotes the traceback of another process, its last line has the error. A line that ends in a colon is joined with the
    next one. Nodes of a TensorFlow graph are left out.

    Args:
      error: any exception.
      max_characters: a longer line is cut, and ends in an ellipsis.
    """
    cause = _cause(error)
    lines = [" ".join(_TENSORFLOW_NODE.sub("", line).split()) for line in str(cause).splitlines()]
    lines = [line for line in lines if line and not _TENSORFLOW_PLACE.fullmatch(line)]
    if any("Traceback (most recent call last)" in line for line in lines):
        message = lines[-1]
    else:
        message = ""
        for line in lines:
            message = f"{message} {line}".lstrip()
            if not message.endswith(":"):
                break
    message = message or type(cause).__name__
    return message if len(message) <= max_characters else f"{message[: max_characters - 1]}…"


def printable(text: str) -> str:
    r"""Returns a text with escapes for characters that cannot be seen, or that change the order of others.

    >>> print(printable("a\nb\udce9.jpg"))
    a\nb\udce9.jpg
    """
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _cause(error: BaseException) -> BaseException:
    """Returns the error that another one wraps, in `exception_details` (BeamIOError) or `reason` (URLError)."""
    details = getattr(error, "exception_details", None)
    wrapped = next(iter(details.values()), None) if isinstance(details, dict) else getattr(error, "reason", None)
    return _cause(wrapped) if isinstance(wrapped, BaseException) else error
