"""Parts: files that records are appended to, and that outlive the process that writes them.

The place and the format decide what a killed process leaves:

- Framed records on a local disk are good up to the last whole record. A background thread flushes each open part twice
  a second, and syncs it to the disk every ten seconds.
- An object in a bucket exists only once it is closed. Some formats, such as Parquet, can be read only then. So only
  closed parts are left. The thread closes a part that is `max_seconds` old, and the next record opens another.

A process may be stopped for so long that another takes its place. A writer then learns that from its `check`, which
raises an error. The writer calls it when a part has become visible, and every few seconds. If the check fails, the
writer removes its part.
"""

import collections
import contextlib
import dataclasses
import hashlib
import math
import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

from transforms.elements.records import Shard
from transforms.storage import contested, files, locations, stores

# Twice a second, so that a kill costs less than a second of records even if a flush takes a while.
_FLUSH_SECONDS = 0.5
_SYNC_SECONDS = 10.0

_BATCH = 64
_SEPARATOR = "-"

# A check may cost a request, so the threads of a process share one.
_CHECK_SECONDS = 5.0

Encode = Callable[[Sequence[Any]], Sequence[bytes]]
# Raises contested.Lost if another process writes these parts now, and other errors if it cannot tell.
Check = Callable[[], object]


class Label(NamedTuple):
    """The first half of a part's name: the attempt that wrote it, and the outcome of its images."""

    attempt: str
    outcome: str

    def __str__(self) -> str:
        return f"{self.attempt}{_SEPARATOR}{self.outcome}{_SEPARATOR}"

    @classmethod
    def of(cls, path: str) -> "Label | None":
        """Returns the label of a part, or None if its name has none."""
        attempt, *rest = path.rpartition("/")[2].split(_SEPARATOR)
        return cls(attempt, rest[0]) if len(rest) == 2 else None


class OpenPart(Protocol):
    """Records being written to an open file."""

    def append(self, records: Sequence[Any]) -> None:
        """Writes a batch of records, now or later. Raises OSError."""

    def finish(self) -> None:
        """Writes the rest, so that the file is complete. The file stays open. Raises OSError."""


class Format(Protocol):
    """How the records of a part become the bytes of a file.

    Attributes:
      suffix: of the names of the files, with the dot.
      has_tail: whether a file that breaks off is good up to its last whole record.
      is_hashed: whether files get a SHA-256, because not all of their bytes have checksums.
    """

    @property
    def suffix(self) -> str: ...
    @property
    def has_tail(self) -> bool: ...
    @property
    def is_hashed(self) -> bool: ...

    def open(self, file: BinaryIO) -> OpenPart:
        """Begins a file, which is open for writing from front to end."""


@dataclasses.dataclass(frozen=True)
class Framed:
    """The format of files that hold one record after the other.

    Attributes:
      suffix, is_hashed: see Format.
      encode: a batch of records → their bytes, one item per record, framed as the file needs them.
    """

    suffix: str
    encode: Encode
    is_hashed: bool = False
    has_tail: bool = dataclasses.field(default=True, init=False)

    def open(self, file: BinaryIO) -> OpenPart:
        return _FramedPart(file, self.encode)


class _FramedPart:
    def __init__(self, file: BinaryIO, encode: Encode):
        self._file = file
        self._encode = encode

    def append(self, records: Sequence[Any]) -> None:
        self._file.write(b"".join(self._encode(records)))

    def finish(self) -> None:
        pass


class _Written:
    """A file that is written from front to end: counts its bytes, and hashes them if asked to.

    It has the methods that pyarrow calls.
    """

    closed = False

    def __init__(self, file: BinaryIO, is_hashed: bool):
        self._file = file
        self._bytes = 0
        self._digest = hashlib.sha256() if is_hashed else None

    def write(self, content: bytes) -> int:
        self._file.write(content)
        self._bytes += len(content)
        if self._digest:
            self._digest.update(content)
        return len(content)

    def tell(self) -> int:
        return self._bytes

    def flush(self) -> None:
        self._file.flush()

    def sha256(self) -> str:
        """Returns the digest in hex; "" if the bytes are not hashed."""
        return self._digest.hexdigest() if self._digest else ""


class PartWriter:
    """Appends records to a part, and opens a new one when a part is closed. Its methods may run in several threads."""

    def __init__(
        self,
        directory: str,
        label: Label | None,
        part_format: Format,
        max_bytes: int,
        max_seconds: float,
        check: Check | None = None,
    ):
        """Opens no file before the first record.

        Args:
          directory: holds nothing but parts.
          label: the first half of each part's name.
          part_format: of the files.
          max_bytes: a part is closed at this size.
          max_seconds: a part that is readable only once closed is closed at this age.
          check: tells whether this process may still write; None if no other process can take over.
        """
        self._prefix = f"{directory}/{label or ''}"
        self._format = part_format
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._check = check
        self._is_local = locations.is_local(directory)
        self._is_bucket = stores.is_bucket(directory)
        self._has_tail = self._is_local and part_format.has_tail
        self._lock = threading.Lock()
        self._batch: list[Any] = []
        self._file: BinaryIO | None = None
        # Of the open part: its records, how many of them are counted as saved, and two of its times.
        self._path = ""
        self._records = self._counted = 0
        self._opened = self._synced = 0.0
        self._closed: list[Shard] = []
        self._seconds = 0.0
        self._error: Exception | None = None
        _watch(self)

    def add(self, record: Any) -> None:
        """Appends a record. Raises OSError if it, or an earlier one, cannot be written."""
        with self._lock:
            self._raise_error()
            if self._check and _is_check_due():
                self._look(is_certain=False)
            self._batch.append(record)
            if len(self._batch) == _BATCH:
                self._write()

    def close(self) -> None:
        """Writes the rest, and closes the part. Raises OSError if a record cannot be written."""
        with self._lock:
            self._raise_error()
            self._write()
            self._close()

    def take(self) -> tuple[list[Shard], float]:
        """Returns the parts that were closed since the last call, and the seconds that writing took."""
        if not self._closed and not self._seconds:
            return [], 0.0
        with self._lock:
            closed, seconds = self._closed, self._seconds
            self._closed, self._seconds = [], 0.0
        return closed, seconds

    def save(self, *, close: bool = False) -> None:
        """Makes the records so far outlive this process.

        Args:
          close: whether to close a part that is readable only once closed, whatever its age.
        """
        with self._lock:
            if self._error:
                return
            try:
                self._write()
                descriptor = self._flush()
                if not self._has_tail and (close or time.monotonic() - self._opened >= self._max_seconds):
                    self._close()
            except Exception as error:  # noqa: BLE001 - the thread that adds the next record raises it
                self._error = error
                return
        if descriptor is not None:  # synced without the lock, because a disk may take its time
            try:
                os.fsync(descriptor)
            except OSError as error:
                self._error = error
            finally:
                os.close(descriptor)

    def take_back(self) -> None:
        """Removes the part that is open, and writes no other."""
        with self._lock:
            self._error = self._error or contested.Lost("another process writes these parts now")
            self._take_back()

    def _flush(self) -> int | None:
        """Flushes the open part of a local disk, and returns a descriptor of it if it is to be synced."""
        if self._file is None or not self._has_tail:
            return None
        self._file.flush()
        self._count()
        now = time.monotonic()
        if now - self._synced < _SYNC_SECONDS:
            return None
        self._synced = now
        return os.dup(self._file.fileno())

    def _count(self) -> None:
        """Counts the records that have become durable."""
        with _watching:
            _saved[self._format.suffix] += self._records - self._counted
        self._counted = self._records

    def _raise_error(self) -> None:
        if self._error:
            raise self._error

    def _write(self) -> None:
        if not self._batch:
            return
        start = time.perf_counter()
        if self._file is None:
            self._path = f"{self._prefix}{uuid.uuid4().hex}{self._format.suffix}"
            try:
                self._file, self._records, self._counted = files.create(self._path), 0, 0
            except OSError:
                self._look()  # if another process has removed the directory, this error says more
                raise
            self._written = _Written(self._file, self._format.is_hashed)
            self._part = self._format.open(cast(BinaryIO, self._written))
            self._opened = self._synced = time.monotonic()
            if not self._is_bucket:  # in a bucket, an object is visible once it is closed
                self._look()
        self._part.append(self._batch)
        self._records += len(self._batch)
        self._batch = []
        self._seconds += time.perf_counter() - start
        if self._written.tell() >= self._max_bytes:
            self._close()

    def _close(self) -> None:
        if self._file is None:
            return
        start = time.perf_counter()
        file, self._file = self._file, None
        self._part.finish()
        if self._is_local:
            file.flush()
            os.fsync(file.fileno())
        file.close()  # raises if cloud storage has not taken all bytes
        self._look()
        self._count()
        self._closed.append(Shard(self._path, self._records, self._written.sha256()))
        self._path = ""
        self._seconds += time.perf_counter() - start

    def _look(self, *, is_certain: bool = True) -> None:
        """Calls the check, and removes the part if another process writes now. May ignore other errors."""
        if self._check is None:
            return
        try:
            self._check()
        except contested.Lost as error:
            _forget_check()
            self._error = error
            self._take_back()
            raise
        except Exception:
            if is_certain:
                raise

    def _take_back(self) -> None:
        file, self._file = self._file, None
        with contextlib.suppress(Exception):  # the error that led here says more
            if file:
                file.close()
            if self._path:
                files.remove_file(self._path)


_writers: "weakref.WeakSet[PartWriter]" = weakref.WeakSet()
_watching = threading.Lock()
_thread: threading.Thread | None = None
# When a thread of this process last called a check, in seconds of the monotonic clock.
_checked = -math.inf
# Records of this process that outlive it, by the suffix of their files.
_saved: collections.Counter[str] = collections.Counter()


def reset() -> None:
    """Sets the count of saved records to zero, for a new run."""
    with _watching:
        _saved.clear()


def saved(suffix: str) -> int:
    """Returns how many records this process has saved since `reset` in files of this suffix."""
    with _watching:
        return _saved[suffix]


def _is_check_due() -> bool:
    """Returns whether no thread of this process has called a check for some seconds. If so, the caller has to."""
    global _checked
    now = time.monotonic()
    if now - _checked < _CHECK_SECONDS:
        return False
    _checked = now
    return True


def _forget_check() -> None:
    """Lets all other writers of this process call their checks at once."""
    global _checked
    _checked = -math.inf


def save_all() -> None:
    """Makes all records that this process has written so far outlive it."""
    with _watching:
        writers = list(_writers)
    for writer in writers:
        writer.save(close=True)


def take_back_all() -> None:
    """Removes the open parts of this process, because another process writes now. It writes no more parts."""
    with _watching:
        writers = list(_writers)
    for writer in writers:
        writer.take_back()


def _watch(writer: PartWriter) -> None:
    global _thread
    with _watching:
        _writers.add(writer)
        if _thread is None or not _thread.is_alive():  # a forked process lacks its parent's threads
            _thread = threading.Thread(target=_save_regularly, name="save-parts", daemon=True)
            _thread.start()


def _save_regularly() -> None:
    while True:
        time.sleep(_FLUSH_SECONDS)
        with _watching:
            writers = list(_writers)
        for writer in writers:
            writer.save()
        del writers  # or a bundle's writer would live until the next round
