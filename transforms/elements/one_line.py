r"""Errors, texts and names as one line for people, in which every character is visible.

A character that cannot be seen, or that changes the order of others, is written as an escape: `\n`, `\r` and `\t`;
`\xNN` for another one of ASCII, and for a byte that is not UTF-8; else `\uNNNN` or `\UNNNNNNNN`. A name consists of
text from outside only, so its backslashes are written as `\\`. Different names are written differently, and `of_name`
reads them.
"""

import re

MAX_CHARACTERS = 2000

# Parts of a TensorFlow error that name nodes of the graph, and lines that say where the graph was built.
_TENSORFLOW_NODE = re.compile(r"\[\[\{\{.*?\}\}\]\]|\{\{(?:function_)?node .*?\}\}|\[Op:[^\]]*\]")
_TENSORFLOW_PLACE = re.compile(
    r"Graph execution error:|Detected at node .*|<stack traces unavailable>|\d+ root error\(s\) found\.|"
    r'File ".*", line \d+, in \S+'
)

_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
# How PEP 383 writes bytes that are not UTF-8.
_BYTES = frozenset(map(chr, range(0xDC80, 0xDD00)))
_ESCAPE = re.compile(r"\\(?:[nrt\\]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
# Characters that count as printable, and show nothing: the code points of Unicode's property
# Default_Ignorable_Code_Point that are letters or marks, and letters and symbols that are blank.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U00013441\U00013442\U00016fe4\U0001d159\U000e0100-\U000e01ef]"
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
    message = printable(message or type(cause).__name__)
    return message if len(message) <= max_characters else f"{message[: max_characters - 1]}…"


def printable(text: str) -> str:
    r"""Returns a text with escapes for characters that cannot be seen. It may hold escapes and backslashes of its own.

    >>> print(printable("a\nb\u3164\udce9.jpg"))
    a\nb\u3164\xe9.jpg
    """
    return text if is_seen(text) else "".join(each if is_seen(each) else escape(each) for each in text)


def printable_lines(text: str) -> str:
    """Returns a text of several lines as `printable` does each of them."""
    return "\n".join(map(printable, text.split("\n")))


def name(text: str) -> str:
    r"""Returns a name, a path or a URI as one line that no other name has.

    >>> print(name("a\nb.jpg"), name(r"a\nb.jpg"))
    a\nb.jpg a\\nb.jpg
    """
    return printable(text.replace("\\", "\\\\"))


def of_name(shown: str) -> str:
    r"""Returns the text that `name` turns into these characters. Other backslashes stay as they are.

    >>> of_name(r"a\nb\xe9.jpg")
    'a\nb\udce9.jpg'
    """
    return _ESCAPE.sub(lambda match: _unescaped(match[0]), shown)


def is_seen(text: str) -> bool:
    """Returns whether a person sees each character of a text, and sees them in their order."""
    return text.isprintable() and not _BLANK.search(text)


def escape(character: str) -> str:
    r"""Returns the escape of a character.

    >>> print(escape("\n"), escape("\x1b"), escape("\udce9"), escape("\xe9"), escape("\U000e0001"))
    \n \x1b \xe9 \u00e9 \U000e0001
    """
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if code < 0x80:
        return f"\\x{code:02x}"
    if character in _BYTES:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _unescaped(escape: str) -> str:
    if len(escape) == 2:
        return {short: character for character, short in _SHORT.items()}.get(escape, "\\")
    code = int(escape[2:], 16)
    return chr(code + 0xDC00 if escape[1] == "x" and code >= 0x80 else min(code, 0x10FFFF))


def _cause(error: BaseException) -> BaseException:
    """Returns the error that another one wraps, in `exception_details` (BeamIOError) or `reason` (URLError)."""
    details = getattr(error, "exception_details", None)
    wrapped = next(iter(details.values()), None) if isinstance(details, dict) else getattr(error, "reason", None)
    return _cause(wrapped) if isinstance(wrapped, BaseException) else error
