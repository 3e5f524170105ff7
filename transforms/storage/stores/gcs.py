"""Cloud Storage, by google-cloud-storage: one client per process, one request per object. No Beam.

Bytes are read by `http_get`, because the client needs a millisecond of a core for each object.
"""

import contextlib
import datetime
import functools
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import requests.adapters
from google.api_core.page_iterator import HTTPIterator
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.auth.transport.requests import Request as TokenRequest
from google.cloud.storage import Blob, Bucket, Client
from google.cloud.storage.retry import DEFAULT_RETRY
from requests import exceptions

from transforms.concurrent.in_flight import CONCURRENCY_MAX
from transforms.storage import errors, http_get
from transforms.storage.context import Storage
from transforms.storage.errors import NotFound, PreconditionFailed
from transforms.storage.stores.store import (
    NoConnection,
    Stored,
    causes,
    existing,
    in_range,
    object_of,
    of_read,
    split,
    written_whole,
)

# The client retries 408, 429, 5xx, resets and time-outs, with the delays and for the time of `http_get.RETRY`.
RETRY = DEFAULT_RETRY.with_delay(**http_get.DELAYS).with_timeout(http_get.PATIENCE)

PAGE_SIZE = 1000  # the most objects that Cloud Storage returns per request

# Bytes of a large object per request. A request that fails is sent again as a whole.
_UPLOAD_BYTES = 16 * 2**20

ENDPOINT_VARIABLE = "STORAGE_EMULATOR_HOST"

_NO_CONNECTION = (exceptions.ConnectionError, exceptions.Timeout, ConnectionError, TimeoutError)

_FIELDS = "items(name,generation,size,crc32c,updated),nextPageToken"


def listed(
    storage: Storage, path: str, *, start: str = "", end: str = "", limit: int | None = None
) -> Iterator[Stored]:
    """See `Store`. The version is the generation."""
    bucket, prefix = split(path)
    parameters = {"prefix": prefix, "startOffset": start, "endOffset": end, "userProject": storage.billing_project}
    request = functools.partial(client()._connection.api_request, timeout=http_get.TIMEOUT, retry=RETRY)
    found = HTTPIterator(  # as the client lists, but without an object of its own for each of the bucket's
        client(),
        errors.of_clients(path)(request),
        f"/b/{quote(bucket, safe='')}/o",
        item_to_value=lambda _, item: _stored(bucket, item),
        extra_params={name: value for name, value in parameters.items() if value} | {"fields": _FIELDS},
        page_size=PAGE_SIZE,
        max_results=limit,
    )
    return (stored for stored in found if in_range(split(stored.path)[1], start, end)) if start or end else iter(found)


def described(storage: Storage, path: str) -> Stored:
    """See `Store`."""
    blob = _blob(storage, path)
    with existing(path), errors.of_clients(path):
        blob.reload(timeout=http_get.TIMEOUT, retry=RETRY)
    return _stored(blob.bucket.name, {**blob._properties, "name": blob.name})


def read(storage: Storage, path: str, version: str, limit: int = sys.maxsize) -> bytes:
    """See `Store`. What is packed by gzip stays so."""
    return _get(storage, path, version, {}, limit).content


def opened(storage: Storage, path: str, version: str) -> BinaryIO:
    """See `Store`."""
    return http_get.in_parts(lambda headers: _get(storage, path, version, headers, sys.maxsize), path)


def _get(storage: Storage, path: str, version: str, headers: dict[str, str], limit: int) -> http_get.Reply:
    bucket, name = object_of(path)
    parameters = f"alt=media&generation={int(version)}" if version else "alt=media"
    if storage.billing_project:
        parameters += f"&userProject={quote(storage.billing_project, safe='')}"
    url = f"{_host()}/download/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}?{parameters}"
    try:
        authorized = _authorized()
        try:
            return http_get.get(http_get.Request(url, authorized | headers), limit)
        except http_get.Refused as error:
            if error.status_code != 401 or not _renewed(authorized):
                raise
            return http_get.get(http_get.Request(url, _authorized() | headers), limit)
    except Exception as error:
        raise of_read(path, version, error) from error


def _authorized() -> dict[str, str]:
    """Returns the headers of a request. The credentials are asked for them once a minute, which renews their token."""
    return _headers(client(), int(time.monotonic()) // 60)


@functools.lru_cache(maxsize=1)
def _headers(of: Client, minute: int) -> dict[str, str]:
    # Who accepts gzip gets an object that was stored with `Content-Encoding: gzip` as it is:
    # https://cloud.google.com/storage/docs/transcoding
    headers = {"Accept-Encoding": "gzip"}
    of._credentials.before_request(TokenRequest(), "GET", _host(), headers)
    return headers


def _renewed(refused: dict[str, str]) -> bool:
    """Returns whether there is another token than one that was refused, as if it was revoked before its time."""
    with _renewing:
        if _authorized() is refused:  # otherwise another thread has renewed it
            try:
                client()._credentials.refresh(TokenRequest())
            except GoogleAuthError:  # there are no credentials, or they are no longer valid
                return False
            _headers.cache_clear()
    return True


_renewing = threading.Lock()


def create(storage: Storage, path: str) -> BinaryIO:
    """See `Store`."""
    blob = _blob(storage, path)
    blob.chunk_size = _UPLOAD_BYTES

    def upload(file: BinaryIO) -> None:
        with errors.of_clients(path):
            size = file.seek(0, os.SEEK_END)  # known and small, it is one request
            blob.upload_from_file(file, rewind=True, size=size, timeout=http_get.TIMEOUT, retry=RETRY)

    return written_whole(upload)


def write(storage: Storage, path: str, content: bytes, version: str | None) -> str:
    """See `Store`."""
    blob = _blob(storage, path)
    with errors.of_clients(path):
        expected = int(version or 0)
        blob.upload_from_string(content, if_generation_match=expected, timeout=http_get.TIMEOUT, retry=RETRY)
    return str(blob.generation)


def copy(storage: Storage, source: str, path: str) -> None:
    """See `Store`."""
    original, into = _blob(storage, source), _blob(storage, path)
    with existing(source), errors.of_clients(source):
        original.bucket.copy_blob(original, into.bucket, into.name, timeout=http_get.TIMEOUT, retry=RETRY)


def remove(storage: Storage, path: str, version: str | None = None) -> None:
    """See `Store`."""
    expected = int(version) if version else None
    with contextlib.suppress(NotFound, PreconditionFailed), errors.of_clients(path):
        _blob(storage, path).delete(if_generation_match=expected, timeout=http_get.TIMEOUT, retry=RETRY)


def ask(storage: Storage, path: str) -> None:
    """See `Store`."""
    found = client().list_blobs(
        _bucket(storage, path), fields="items(name)", max_results=1, timeout=(5, 5), retry=RETRY.with_timeout(6)
    )
    try:
        next(iter(found), None)
    except Exception as error:
        behind = list(causes(error))
        if any(isinstance(cause, _NO_CONNECTION) for cause in behind):
            urls = [request.url for cause in behind if (request := getattr(cause, "request", None))]
            raise NoConnection.of(error, urlsplit(str(urls[0])).netloc if urls else endpoint()) from error
        raise


def endpoint() -> str:
    """See `Store`."""
    return os.environ.get(ENDPOINT_VARIABLE) or "storage.googleapis.com"


@functools.cache
def client() -> Client:
    """Returns the client that all threads of this process share. Without credentials it reads public buckets only."""
    # Otherwise the client requests the metadata of each bucket once, for traces. That needs a further permission, and
    # is not billed to the billing project.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    emulator = os.environ.get(ENDPOINT_VARIABLE)
    if emulator and "://" not in emulator:
        raise ValueError(f"the variable {ENDPOINT_VARIABLE}: expected http://HOST:PORT")
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


def _host() -> str:
    return client()._connection.API_BASE_URL.rstrip("/")


def _bucket(storage: Storage, path: str) -> Bucket:
    return client().bucket(split(path)[0], user_project=storage.billing_project)


def _blob(storage: Storage, path: str) -> Blob:
    return _bucket(storage, path).blob(object_of(path)[1])


def _stored(bucket: str, item: Mapping[str, Any]) -> Stored:
    """Returns an object from its description in the JSON API."""
    changed = datetime.datetime.fromisoformat(item["updated"]).timestamp() if "updated" in item else 0.0
    path = f"gs://{bucket}/{item['name']}"
    return Stored(path, str(item["generation"]), int(item.get("size", 0)), item.get("crc32c", ""), changed)
