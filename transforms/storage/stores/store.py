"""The interface of stores, and what they share: the parts of a path, and objects that are written as a whole. No Beam.

Errors: a path that no object can have is a ValueError. An object that is not there is a FileNotFoundError. Any other
request that fails is a StorageError of `errors`.
"""

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

from transforms.storage import errors
from transforms.storage.context import Storage
from transforms.storage.errors import NotFound, PreconditionFailed

# An object that is being written is in memory up to so many bytes, and then in a temporary file.
_IN_MEMORY_BYTES = 2**20


class Stored(NamedTuple):
    """What a store says about a file.

    Attributes:
      path: its URI, or its path if it is local.
      version: changes when the content does: a generation, an ETag, or size and time; never "".
      size: in bytes.
      crc32c: of the bytes as stored, in base64; "" if the store keeps none.
      changed: when the file was last written, in seconds since 1970.
    """

    path: str
    version: str
    size: int
    crc32c: str = ""
    changed: float = 0.0


class NoConnection(Exception):
    """Nothing answers at `host`, for this `reason`."""

    def __init__(self, host: str, reason: str):
        host = errors.without_credentials(f"//{host}").removeprefix("//")  # with or without a scheme
        super().__init__(host, reason)
        self.host, self.reason = host, errors.without_credentials(reason)

    @classmethod
    def of(cls, error: Exception, host: str) -> "NoConnection":
        """Returns the error with the reason that the operating system gave, if it gave one."""
        reasons = [cause.strerror for cause in causes(error) if isinstance(cause, OSError) and cause.strerror]
        return cls(host, reasons[-1] if reasons else "no answer in time")


class Store(Protocol):
    """A kind of bucket. The modules of this folder have these functions."""

    def listed(
        self, storage: Storage, path: str, *, start: str = "", end: str = "", limit: int | None = None
    ) -> Iterator[Stored]:
        """Yields the objects whose URIs begin with `path`, in the order of their names.

        Args:
          storage: see `Storage`.
          path: a bucket, and the front of the names.
          start, end: the first name, and the name before which to stop; "" for no limit. A server may ignore them.
          limit: the most objects to yield.
        """

    def described(self, storage: Storage, path: str) -> Stored:
        """Returns what the store says about one object, by one request."""

    def read(self, storage: Storage, path: str, version: str, limit: int = sys.maxsize) -> bytes:
        """Returns the bytes of an object in this version, as stored, at most the first `limit`, by one request."""

    def opened(self, storage: Storage, path: str, version: str) -> BinaryIO:
        """Opens an object in this version for reading; it can be sought. If it is gone, the first read says so."""

    def create(self, storage: Storage, path: str) -> BinaryIO:
        """Opens an object to be written from front to end. It appears once the file is closed."""

    def write(self, storage: Storage, path: str, content: bytes, version: str | None) -> str:
        """Writes a small object, and returns its new version.

        Raises PreconditionFailed unless the object has `version`; None if it must not exist.
        """

    def copy(self, storage: Storage, source: str, path: str) -> None:
        """Copies an object to another name, without its bytes passing through here."""

    def remove(self, storage: Storage, path: str, version: str | None = None) -> None:
        """Removes an object if it exists, and has this version if one is given."""

    def ask(self, storage: Storage, path: str) -> None:
        """Makes one request for a bucket, within seconds. Raises NoConnection if nothing answers."""

    def endpoint(self) -> str:
        """Returns the server's address."""

    @property
    def ENDPOINT_VARIABLE(self) -> str:  # noqa: N802 - a constant of the module
        """The environment variable by which a user names another server."""


def split(path: str) -> tuple[str, str]:
    """Returns the bucket of a path and the rest, a name or a pattern of names; raises ValueError without a bucket."""
    scheme, _, rest = path.partition("://")
    bucket, _, name = rest.partition("/")
    if not bucket or any(wildcard in bucket for wildcard in "*?["):
        raise ValueError(f"{path!r}: expected {scheme}://BUCKET/NAME, without wildcards in the bucket's name")
    return bucket, name


def object_of(path: str) -> tuple[str, str]:
    """Returns bucket and name of an object's path; raises ValueError if no object can have this name."""
    bucket, name = split(path)
    if name in ("", ".", ".."):  # a URL that ends in one means another resource
        raise ValueError(f"{path!r}: expected {path.partition('://')[0]}://BUCKET/NAME of an object")
    return bucket, name


def in_range(name: str, start: str, end: str) -> bool:
    """Returns whether a name is one of a range. A server without support for ranges returns all names."""
    return start <= name and (not end or name < end)


def written_whole(upload: Callable[[BinaryIO], Any]) -> BinaryIO:
    """Returns a file that is uploaded when it is closed. If it is never closed, there is no object."""
    return cast(BinaryIO, _Whole(upload))


class _Whole(io.RawIOBase):
    def __init__(self, upload: Callable[[BinaryIO], Any]):
        self._upload = upload
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - closed by `close`

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        return self._file.write(content)

    def tell(self) -> int:
        return self._file.tell()

    def __exit__(self, kind: Any, *args: Any) -> None:
        if kind is None:
            self.close()
        else:
            self._abandon()

    def __del__(self) -> None:
        self._abandon()

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._file.seek(0)
            self._upload(cast(BinaryIO, self._file))
        finally:
            self._abandon()

    def _abandon(self) -> None:
        self._file.close()
        super().close()


def causes(cause: BaseException | None) -> Iterator[BaseException]:
    """Yields an error, and the errors behind it. Google's has the last one in `cause`, Azure's in `inner_exception`."""
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        behind = getattr(cause, "cause", None) or getattr(cause, "inner_exception", None)
        cause = behind if isinstance(behind, BaseException) else cause.__cause__ or cause.__context__


def gone(path: str, version: str | None = None) -> FileNotFoundError:
    """Returns the error for an object that is not there, or not in this version."""
    of_version = f" of version {version}" if version else ""
    return FileNotFoundError(f"{path}: no such object{of_version}")


@contextlib.contextmanager
def existing(path: str) -> Iterator[None]:
    """Raises FileNotFoundError if the block does not find the object."""
    try:
        yield
    except (NotFound, PreconditionFailed) as error:
        raise gone(path) from error


def of_read(path: str, version: str, error: Exception) -> Exception:
    """Returns an error of reading an object as one of this project. A context manager would take longer."""
    error = errors.of(path, error)
    return gone(path, version) if isinstance(error, (NotFound, PreconditionFailed)) else error
