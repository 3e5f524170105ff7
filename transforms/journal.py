"""A file that names the image a thread is at. It outlives the process, so it tells which image killed it."""

import os
from pathlib import Path
from types import TracebackType

SUFFIX = ".key"
# A key is cut after this many bytes. Two more bytes hold its length.
KEY_BYTES = 4094
_NOTHING = (0).to_bytes(2, "little")


class Journal:
    """Names the image that one thread is at. Use it as `with journal.at(key):`."""

    def __init__(self, path: str):
        """Makes the file and its directory. Raises OSError."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def at(self, key: bytes) -> "Journal":
        """Names an image until the `with` block ends."""
        name = key[:KEY_BYTES]
        os.pwrite(self._descriptor, len(name).to_bytes(2, "little") + name, 0)
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.pwrite(self._descriptor, _NOTHING, 0)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


def read(path: str) -> bytes | None:
    """Returns the key of the image that a thread was at when its process died; None if it was at none."""
    content = Path(path).read_bytes()
    length = int.from_bytes(content[:2], "little")
    return content[2 : 2 + length] or None
