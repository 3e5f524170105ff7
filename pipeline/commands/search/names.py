"""The names of images for people, and the image that a person means by one."""

import json

from transforms.elements import keys


def last_part(key: bytes) -> str:
    """Returns the last part of a key, as `keys.name` does the key."""
    return keys.name(key.rstrip(b"/").rpartition(b"/")[2])


def means(name: str, key: bytes) -> bool:
    """Returns whether a name with escapes is that of a key: in a column or message, on a screen or page, or in JSON."""
    return name in (keys.text(key), keys.name(key), json.dumps(keys.uri(key))[1:-1])
