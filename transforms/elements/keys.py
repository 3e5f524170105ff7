r"""Keys: the bytes of the URI under which an image was listed, and the texts that stand for them. No Beam.

Names of files need not be valid UTF-8, so a key is bytes. Two texts represent it without loss:

- the URI as filesystems, lists and JSON files spell it, where a byte that is not UTF-8 is a lone surrogate (PEP 383);
- the text for columns of a table and for messages, which is valid UTF-8 and writes such a byte as `\xNN`. A key that
  has these four characters of its own would be read as that byte, so the backslash is then written as `\x5c`.

People see the `name` of a key, in which every character is visible.
"""

import hashlib
import re

from transforms.elements import one_line

_IN_SHARD = re.compile(rb"\.(tar|tgz|tfrecords?)[^/#]*#.", re.DOTALL | re.IGNORECASE)
_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")
_ESCAPED_OR_BACKSLASH = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")
_BACKSLASH = b"\\x5c"
# Backslashes of a key's own that a reader of its text would take for the start of an escape.
_MISLEADING = re.compile(rb"\\(?=x(?:5c|[89a-f][0-9a-f]))")


def of_uri(uri: str) -> bytes:
    r"""Returns the key of a URI or path as a filesystem spells it.

    >>> of_uri("gs://bucket/caf\udce9.jpg")
    b'gs://bucket/caf\xe9.jpg'
    """
    return uri.encode("utf-8", "surrogateescape")


def uri(key: bytes) -> str:
    """Returns the URI or path of a key, for filesystems and for JSON, which escapes lone surrogates."""
    return key.decode("utf-8", "surrogateescape")


def is_in_shard(key: bytes) -> bool:
    """Returns whether a key is that of an image in a tar or TFRecord file.

    >>> is_in_shard(b"gs://bucket/photos-0001.tar.gz#cats/1.jpg"), is_in_shard(b"gs://bucket/photos.tar/1.jpg")
    (True, False)
    """
    return _IN_SHARD.search(key) is not None


def hashed(key: bytes) -> bytes:
    """Returns the eight bytes by whose order keys are sampled, the same in each process."""
    return hashlib.blake2b(key, digest_size=8).digest()


def text(key: bytes) -> str:
    r"""Returns a key as valid UTF-8, for columns and messages; other bytes are escaped.

    >>> print(text(b"gs://bucket/caf\xe9.jpg"))
    gs://bucket/caf\xe9.jpg
    """
    plain = _plain(key)
    if _BACKSLASH not in key and _of_plain(plain) == key:
        return plain
    return _plain(_MISLEADING.sub(lambda _: _BACKSLASH, key))


def of_text(column: str) -> bytes:
    r"""Returns the key whose `text` a column holds.

    >>> of_text(r"gs://bucket/caf\xe9.jpg")
    b'gs://bucket/caf\xe9.jpg'
    """
    if _BACKSLASH in column.encode():
        unescaped = _unescaped(_ESCAPED_OR_BACKSLASH, column)
        if text(unescaped) == column:
            return unescaped
    return _of_plain(column)


def name(key: bytes) -> str:
    r"""Returns a key as one line for people. No two keys have the same line; see `one_line.name`.

    >>> print(name(b"/photos/caf\xe9\n.jpg"))
    /photos/caf\xe9\n.jpg
    """
    return one_line.name(uri(key))


def _plain(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")


def _of_plain(column: str) -> bytes:
    unescaped = _unescaped(_ESCAPED, column)
    # Otherwise the backslashes are the key's own.
    return unescaped if _plain(unescaped) == column else column.encode()


def _unescaped(escapes: re.Pattern[bytes], column: str) -> bytes:
    return escapes.sub(lambda escape: bytes.fromhex(escape[1].decode()), column.encode())
