"""A file that names the image a thread works on. It outlives the process, so it shows which image killed it.

The name of an image is its version, a zero byte and its key: an image that has changed since is another one.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from transforms.elements.records import ImageRef

SUFFIX = ".key"
# A name is cut after this many bytes. Two more bytes hold its length.
NAME_BYTES = 4094
_NOTHING = (0).to_bytes(2, "little")


def name(ref: ImageRef) -> bytes:
    """Returns the name of one version of an image.

    >>> name(ImageRef(b"/a.jpg", "12-1774746000.000000"))
    b'12-1774746000.000000\\x00/a.jpg'
    """
    return (ref.version.encode() + b"\0" + ref.key)[:NAME_BYTES]


def key(image: bytes) -> bytes:
    """Returns the key in the name of an image, which may be cut.

    >>> key(b"12-1774746000.000000\\x00/a.jpg")
    b'/a.jpg'
    """
    return image.partition(b"\0")[2]


class Journal:
    """Names the image that one thread works on. Use it as `with journal.at(ref):`."""

    def __init__(self, path: str):
        """Makes the file and its directory. Raises OSError."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    @contextlib.contextmanager
    def at(self, ref: ImageRef) -> Iterator[None]:
        """Names an image until the `with` block ends."""
        image = name(ref)
        os.pwrite(self._descriptor, len(image).to_bytes(2, "little") + image, 0)
        try:
            yield
        finally:
            os.pwrite(self._descriptor, _NOTHING, 0)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


def read(path: str) -> bytes | None:
    """Returns the name of the image that a thread was working on when its process died; None if there was none."""
    content = Path(path).read_bytes()
    image = content[2 : 2 + int.from_bytes(content[:2], "little")]
    return image if key(image) else None
