"""The names of images for people, and the image that a person means by one."""

import json

from transforms import keys
from transforms.one_line import printable


def whole(key: bytes) -> str:
    r"""Returns a key as one line of characters that can be seen.

    >>> print(whole(b"/photos/caf\xe9\n.jpg"))
    /photos/caf\xe9\n.jpg
    """
    return printable(keys.text(key))


def last_part(key: bytes) -> str:
    """Returns the last part of a key, as `whole` does the key."""
    return printable(keys.text(key).rstrip("/").rpartition("/")[2])


def means(name: str, key: bytes) -> bool:
    """Returns whether a name with escapes is that of a key: in a column or message, on a screen or page, or in JSON."""
    return name in (keys.text(key), whole(key), json.dumps(keys.uri(key))[1:-1])
