"""Objects in Cloud Storage, by google-cloud-storage: one client a process, one request an object. No Beam.

An object is read in the generation that was listed, so what is read is what was listed, or there is an error.
"""

import base64
import functools
import os
from typing import BinaryIO, NamedTuple

import google_crc32c
import requests.adapters
from google.api_core.exceptions import NotFound
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from transforms.concurrent.in_flight import CONCURRENCY_MAX

SCHEME = "gs://"

# Seconds to connect, and to wait for the next bytes. The client would wait 60 s, so that two replies that never come
# use up its whole patience.
TIMEOUT = (10, 30)

# The client's own: 408, 429, 5xx, resets and time-outs. Delays are random up to these; when a request fails and more
# than two minutes have passed, that is the object's failure.
RETRY = DEFAULT_RETRY.with_delay(initial=0.5, maximum=16, multiplier=2).with_timeout(120)

# Of a file that is read from front to end: what one request brings.
_CHUNK_BYTES = 16 * 2**20


class Stored(NamedTuple):
    """What is known of an object without reading it; the checksum is of the bytes as stored, in base64."""

    generation: str
    size: int
    crc32c: str


def holds(path: str) -> bool:
    """Returns whether a path is one in Cloud Storage."""
    return path.startswith(SCHEME)


def split(path: str) -> tuple[str, str]:
    """Returns the bucket and the rest of a path, the name of an object or a pattern of names.

    Raises:
      ValueError: where there is no bucket in it.
    """
    bucket_name, _, name = path.removeprefix(SCHEME).partition("/")
    if not bucket_name or any(wildcard in bucket_name for wildcard in "*?["):
        raise ValueError(f"{path!r}: expected gs://BUCKET/NAME, without wildcards in the bucket's name")
    return bucket_name, name


def bucket(path: str, billing_project: str | None) -> storage.Bucket:
    """Returns the bucket of a path, without asking for it; each request through it is billed to the project, if any."""
    return client().bucket(split(path)[0], user_project=billing_project)


def describe(path: str, billing_project: str | None) -> Stored:
    """Asks what an object is, by one request.

    Raises:
      FileNotFoundError: if there is none; the client's own errors where it cannot be asked.
    """
    blob = _blob(path, None, billing_project)
    try:
        blob.reload(timeout=TIMEOUT, retry=RETRY)
    except NotFound as error:
        raise _nothing(path, None) from error
    return stored(blob)


def stored(blob: storage.Blob) -> Stored:
    """Returns what a listing or a description says of an object."""
    return Stored(str(blob.generation), blob.size or 0, blob.crc32c or "")


def read(path: str, generation: str, billing_project: str | None) -> bytes:
    """Returns the bytes of an object as stored, by one request; the client compares them with the server's checksum.

    Raises:
      FileNotFoundError: if there is no such object in this generation; the client's own errors where it cannot be read.
    """
    blob = _blob(path, generation, billing_project)
    try:
        content: bytes = blob.download_as_bytes(raw_download=True, timeout=TIMEOUT, retry=RETRY)
    except NotFound as error:
        raise _nothing(path, generation) from error
    return content


def open_stored(path: str, generation: str, billing_project: str | None) -> BinaryIO:
    """Opens an object to be read from front to end, as stored; where it is gone reading raises NotFound."""
    blob = _blob(path, generation, billing_project)
    file: BinaryIO = blob.open("rb", chunk_size=_CHUNK_BYTES, raw_download=True, timeout=TIMEOUT, retry=RETRY)
    return file


def crc32c(content: bytes) -> str:
    """Returns the checksum of bytes, as Cloud Storage gives it."""
    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()


@functools.cache
def client() -> storage.Client:
    """Returns the one client of this process, for all threads; without credentials one that reads public buckets."""
    # Or the client asks once for the metadata of each bucket, to describe it in traces; that takes a further
    # permission, and is not billed to the project that was named.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    try:
        made = storage.Client(project=None)  # no request here is for a project
    except DefaultCredentialsError:
        made = storage.Client.create_anonymous_client()
    # A pool of 10 is what a session has by itself; what is more than that is closed after each request.
    adapter = requests.adapters.HTTPAdapter(pool_maxsize=CONCURRENCY_MAX)
    for scheme in ("https://", "http://"):
        made._http.mount(scheme, adapter)
    return made


def _blob(path: str, generation: str | None, billing_project: str | None) -> storage.Blob:
    name = split(path)[1]
    if not name:
        raise ValueError(f"{path!r}: expected gs://BUCKET/NAME of an object")
    return bucket(path, billing_project).blob(name, generation=int(generation) if generation else None)


def _nothing(path: str, generation: str | None) -> FileNotFoundError:
    return FileNotFoundError(f"{path}: no such object" + (f" of generation {generation}" if generation else ""))
