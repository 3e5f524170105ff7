"""Errors of storage: turns the errors of all stores' clients into one error of this project. No Beam.

Each store's client has its own errors, in several families without a common base. Each error of a request becomes a
StorageError, which is an OSError. So code that reads or writes files catches OSError, wherever the files lie.
"""

import contextlib
import io
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, TypeVar, cast

from transforms.elements.one_line import one_line

ItemT = TypeVar("ItemT")

# Bytes that a reader takes from a client's file at once.
_BUFFER_BYTES = 2**18

# These mean the same for any file, and stay as they are: errors of the operating system, and refused values.
_PLAIN = (OSError, ValueError, MemoryError)


class StorageError(OSError):
    """A request to a store that failed, after the retries of its client. The message names the file."""


class NotFound(StorageError, FileNotFoundError):
    """The store has no such object, or no such bucket."""


class Forbidden(StorageError, PermissionError):
    """The store refuses the request."""


class PreconditionFailed(StorageError):
    """The object is not in the state that the request asks for."""


# S3 answers 409 where two conditional writes meet, and Azure where an object exists that must not.
_CREDENTIALS = re.compile(r"//[^/\s@]*@")

_BY_STATUS = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: PreconditionFailed,
    412: PreconditionFailed,
}


@contextlib.contextmanager
def of_clients(path: str) -> Iterator[None]:
    """Turns a client's errors in the block, or in the decorated function, into errors of this project.

    Args:
      path: of the file or directory that is asked for, for the message.

    Raises:
      StorageError: in place of a client's own error. Errors of the operating system, ValueError and MemoryError stay.
    """
    try:
        yield
    except Exception as error:
        raised = of(path, error)
        if raised is error:
            raise
        raise raised from error


def each(items: Iterable[ItemT], path: str) -> Iterator[ItemT]:
    """Yields the items of a client's iterator, whose errors become errors of this project."""
    iterator = iter(items)
    while True:
        with of_clients(path):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def reader(file: BinaryIO, path: str) -> BinaryIO:
    """Returns a file of a client, open for reading, whose methods raise errors of this project."""
    return io.BufferedReader(_Reader(file, path), _BUFFER_BYTES)


def writer(file: BinaryIO, path: str) -> BinaryIO:
    """Returns a file of a client, open for writing, whose methods raise errors of this project."""
    return cast(BinaryIO, _Writer(file, path))


class _File(io.RawIOBase):
    def __init__(self, file: BinaryIO, path: str):
        self._file = file
        self._path = path

    def _call(self, method: Callable[..., Any], *args: Any) -> Any:
        with of_clients(self._path):
            return method(*args)

    def tell(self) -> int:
        return cast(int, self._call(self._file.tell))

    def close(self) -> None:
        if not self.closed:
            try:
                self._call(self._file.close)
            finally:
                super().close()


class _Reader(_File):
    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return cast(int, self._call(self._file.seek, offset, whence))

    def readall(self) -> bytes:
        return cast(bytes, self._call(self._file.read) or b"")

    def readinto(self, buffer: Any) -> int:
        content = self._call(self._file.read, len(buffer)) or b""
        buffer[: len(content)] = content
        return len(content)


class _Writer(_File):
    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._call(self._file.write, content)
        return len(content)


def of(path: str, error: Exception) -> Exception:
    """Returns a client's error as one of this project; errors that stay as they are, see `of_clients`."""
    cause = _wrapped(error)
    is_plain = isinstance(cause, _PLAIN) and type(cause).__module__ == "builtins"
    if isinstance(cause, Exception) and (is_plain or isinstance(cause, StorageError)):
        return cause
    kind = _BY_STATUS.get(_status(cause), StorageError)
    return kind(f"{path}: {without_credentials(_text(cause, error))}")


def without_credentials(text: str) -> str:
    """Returns a text without the users and passwords of the URLs in it.

    >>> without_credentials("no connection to http://user:secret@minio:9000")
    'no connection to http://minio:9000'
    """
    return _CREDENTIALS.sub("//", text)


def _text(cause: object, error: Exception) -> str:
    """Returns the message of an error. If an upload is refused, the client's own message is a tuple."""
    response = getattr(cause, "response", None)
    if isinstance(cause, Exception) and len(cause.args) > 1 and getattr(response, "reason", None):
        return f"{_status(cause)} {response.reason}"  # type: ignore[union-attr]
    return one_line(error)


def _wrapped(error: Exception) -> object:
    """Returns the error, or the HTTP status, that a BeamIOError wraps; any other error as it is."""
    details = getattr(error, "exception_details", None)
    wrapped = next(iter(details.values()), error) if isinstance(details, dict) else error
    return _wrapped(wrapped) if isinstance(wrapped, Exception) and wrapped is not error else wrapped


def _status(cause: object) -> int:
    """Returns the HTTP status of an error of a client; 0 if it has none. Google's RetryError has it in its `cause`."""
    cause = getattr(cause, "cause", None) or cause
    if isinstance(response := getattr(cause, "response", None), dict):  # of boto3
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    places = cause, getattr(cause, "response", None)
    for status in (cause, *(getattr(place, name, None) for place in places for name in ("code", "status_code"))):
        if isinstance(status, int):
            return int(status)
    return 0
