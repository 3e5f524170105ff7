"""Objects in Cloud Storage, by google-cloud-storage: one client per process, one request per object. No Beam.

An object is read in the generation that was listed. If it is gone, or no object has the name, that is a
FileNotFoundError. Any other request that fails is a StorageError of `errors`.
"""

import contextlib
import functools
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import requests.adapters
from google.api_core.page_iterator import HTTPIterator
from google.auth.exceptions import DefaultCredentialsError
from google.cloud.storage import Blob, Bucket, Client
from google.cloud.storage.retry import DEFAULT_RETRY

from transforms.concurrent.in_flight import CONCURRENCY_MAX
from transforms.storage import errors
from transforms.storage.context import DEFAULT_STORAGE, Storage
from transforms.storage.errors import NotFound, PreconditionFailed
from transforms.storage.locations import GCS_SCHEME

# Seconds to connect, and to wait for the next bytes. The client's default is 60 s, with which two lost replies would
# take all the time for retries.
TIMEOUT = (10, 30)

# The client retries 408, 429, 5xx, resets and time-outs. Delays are random up to these. If a request fails after more
# than two minutes, the object has failed.
RETRY = DEFAULT_RETRY.with_delay(initial=0.5, maximum=16, multiplier=2).with_timeout(120)

# Bytes per request, for a file that is read from front to end.
_CHUNK_BYTES = 16 * 2**20


class Metadata(NamedTuple):
    """What a bucket says about an object. The checksum is of the bytes as stored, in base64."""

    generation: str
    size: int
    crc32c: str


def split(path: str) -> tuple[str, str]:
    """Returns the bucket of a path and the rest, a name or a pattern of names; raises ValueError without a bucket."""
    bucket_name, _, name = path.removeprefix(GCS_SCHEME).partition("/")
    if not bucket_name or any(wildcard in bucket_name for wildcard in "*?["):
        raise ValueError(f"{path!r}: expected gs://BUCKET/NAME, without wildcards in the bucket's name")
    return bucket_name, name


def bucket(storage: Storage, path: str) -> Bucket:
    """Returns the bucket of a path without a request. Requests through it are made as `storage` says."""
    return client().bucket(split(path)[0], user_project=storage.billing_project)


def blobs(bucket: Bucket, prefix: str, fields: str, *, start: str = "", end: str = "", **limits: int) -> HTTPIterator:
    """Returns the objects whose names begin with `prefix`, page by page, with the requested fields.

    Args:
      bucket: as `bucket` returns it.
      prefix: "" for all objects.
      fields: in the syntax of the JSON API.
      start, end: the first name, and the name before which to stop; "" for no limit.
      limits: `page_size` for the objects per request, `max_results` for the objects in all.
    """
    names = {"prefix": prefix or None, "start_offset": start or None, "end_offset": end or None}
    listing = client().list_blobs(bucket, fields=fields, timeout=TIMEOUT, retry=RETRY, **names, **limits)
    listing.api_request = errors.of_clients(f"{GCS_SCHEME}{bucket.name}/{prefix}")(listing.api_request)
    return listing


def describe(storage: Storage, path: str) -> Metadata:
    """Returns the metadata of an object, by one request."""
    blob = _blob(storage, path)
    with _existing(path), errors.of_clients(path):
        blob.reload(timeout=TIMEOUT, retry=RETRY)
    return metadata(blob)


def metadata(blob: Blob) -> Metadata:
    """Returns the metadata of an object that was listed or described."""
    return Metadata(str(blob.generation), blob.size or 0, blob.crc32c or "")


def read(storage: Storage, path: str, generation: str, limit: int = sys.maxsize) -> bytes:
    """Returns the bytes of an object as stored, by one request. The client compares them with the server's checksum.

    If the server sends more than `limit` bytes, these are the first `limit`.
    """
    blob = _blob(storage, path, generation)
    content = _Limited(limit)
    with _existing(path, generation), errors.of_clients(path), contextlib.suppress(_LimitReached):
        blob.download_to_file(content, raw_download=True, timeout=TIMEOUT, retry=RETRY)
    return content.getvalue()


class _LimitReached(Exception):
    """A download that is stopped. It is no OSError, which the client would take for a broken connection."""


class _Limited(io.BytesIO):
    """A buffer that takes `limit` bytes."""

    def __init__(self, limit: int):
        super().__init__()
        self._limit = limit

    def write(self, content: Any) -> int:
        written = super().write(content[: self._limit - self.tell()])
        if written < len(content):
            raise _LimitReached
        return written


@contextlib.contextmanager
def open_stored(storage: Storage, path: str, generation: str) -> Iterator[BinaryIO]:
    """Yields an object to be read from front to end, as stored. If it is gone, the first read raises the error."""
    blob = _blob(storage, path, generation)
    stream = blob.open("rb", chunk_size=_CHUNK_BYTES, raw_download=True, timeout=TIMEOUT, retry=RETRY)
    with _existing(path, generation), errors.reader(stream, path) as file:
        yield file


def write(path: str, content: bytes, *, if_generation_match: int) -> str:
    """Writes a small object, and returns its generation.

    Args:
      path: of the object.
      content: its bytes.
      if_generation_match: the generation that it must have; 0 if it must not exist.

    Raises:
      PreconditionFailed: if it has another generation.
    """
    blob = _blob(DEFAULT_STORAGE, path)
    with errors.of_clients(path):
        blob.upload_from_string(content, if_generation_match=if_generation_match, timeout=TIMEOUT, retry=RETRY)
    return str(blob.generation)


def copy(source: str, path: str) -> None:
    """Copies an object, by one request if both names are in one bucket."""
    original, into = _blob(DEFAULT_STORAGE, source), bucket(DEFAULT_STORAGE, path)
    with _existing(source), errors.of_clients(source):
        original.bucket.copy_blob(original, into, split(path)[1], timeout=TIMEOUT, retry=RETRY)


def remove(path: str, generation: str | None) -> None:
    """Removes an object if it has this generation, or any generation if None is given."""
    expected = int(generation) if generation else None
    with contextlib.suppress(NotFound, PreconditionFailed), errors.of_clients(path):
        _blob(DEFAULT_STORAGE, path).delete(if_generation_match=expected, timeout=TIMEOUT, retry=RETRY)


@functools.cache
def client() -> Client:
    """Returns the client that all threads of this process share. Without credentials it reads public buckets only."""
    # Otherwise the client requests the metadata of each bucket once, for traces. That needs a further permission, and
    # is not billed to the billing project.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    with errors.of_clients("credentials"):
        try:
            process_client = Client(project=None)  # no request here is for a project
        except DefaultCredentialsError:
            process_client = Client.create_anonymous_client()
    # By default a session keeps 10 connections, and closes any further one after each request.
    adapter = requests.adapters.HTTPAdapter(pool_maxsize=CONCURRENCY_MAX)
    for scheme in ("https://", "http://"):
        process_client._http.mount(scheme, adapter)
    return process_client


def _blob(storage: Storage, path: str, generation: str | None = None) -> Blob:
    name = split(path)[1]
    if name in ("", ".", ".."):  # no object has such a name, and a URL that ends in one means another resource
        raise ValueError(f"{path!r}: expected gs://BUCKET/NAME of an object")
    return bucket(storage, path).blob(name, generation=int(generation) if generation else None)


@contextlib.contextmanager
def _existing(path: str, generation: str | None = None) -> Iterator[None]:
    """Raises FileNotFoundError, which names the generation, if the block does not find the object."""
    try:
        yield
    except NotFound as error:
        of_generation = f" of generation {generation}" if generation else ""
        raise FileNotFoundError(f"{path}: no such object{of_generation}") from error
