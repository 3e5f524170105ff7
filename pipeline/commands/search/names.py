"""The names of images for people, and the image that a person means by one."""

import json

from transforms.elements import keys


def last_part(key: bytes) -> str:
    """Returns the last part of a key, escaped as in `keys.name`."""
    return keys.name(key.rstrip(b"/").rpartition(b"/")[2])


def means(name: str, key: bytes) -> bool:
    """Returns whether a name is that of a key, with the escapes of columns and messages, of screens or of JSON."""
    return name in (keys.text(key), keys.name(key), json.dumps(keys.uri(key))[1:-1])
