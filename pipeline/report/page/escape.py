"""Texts from outside in a page: names of files, messages, settings. Everything from there passes through here."""

import html

from transforms.elements import keys
from transforms.elements.one_line import printable

_MAX_CHARACTERS = 300


def text(value: object, max_characters: int = _MAX_CHARACTERS) -> str:
    r"""Returns a value as HTML text, which may also stand in an attribute with quotes.

    Characters that cannot be seen or that change the order of others are written as escapes. The middle of a long text
    is left out, because names differ at both ends.

    >>> text("<b>\u202egpj.exe\x00")
    '&lt;b&gt;\\u202egpj.exe\\x00'
    """
    plain = printable(str(value))
    if len(plain) > max_characters:
        half = (max_characters - 1) // 2
        plain = f"{plain[:half]}…{plain[-half:]}"
    return html.escape(plain, quote=True)


def key(image: bytes, max_characters: int = _MAX_CHARACTERS) -> str:
    """Returns the whole key of an image as HTML text."""
    return text(keys.name(image), max_characters)


def name(image: bytes, max_characters: int = 60) -> str:
    """Returns the last part of a key as HTML text: the name of the file, or of the image in its shard."""
    whole = image.rstrip(b"/")
    return text(keys.name(whole.rpartition(b"/")[2] or whole), max_characters)
