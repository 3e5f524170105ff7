"""Azure Blob Storage, by azure-storage-blob: one client per process. No Beam.

A path is az://CONTAINER/NAME, and the account comes from the environment: AZURE_STORAGE_CONNECTION_STRING, or
AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN. With an account alone, the package
azure-identity finds credentials if it is installed. The version of an object is its ETag, without the quotes. Bytes are
read by `http_get`, because the client needs a millisecond of a core for each object.
"""

import contextlib
import datetime
import functools
import itertools
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, cast
from urllib.parse import quote

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError
from azure.storage.blob import (
    AccountSasPermissions,
    BlobServiceClient,
    ExponentialRetry,
    ResourceTypes,
    generate_account_sas,
)

from transforms.storage import errors, http_get
from transforms.storage.context import Storage
from transforms.storage.errors import NotFound, PreconditionFailed
from transforms.storage.stores import by_etag
from transforms.storage.stores.store import (
    NoConnection,
    Stored,
    existing,
    in_range,
    object_of,
    split,
    written_whole,
)

ENDPOINT_VARIABLE = "AZURE_STORAGE_CONNECTION_STRING"

_PAGE_SIZE = 5000  # the most objects that Azure returns per request
_API_VERSION = "2021-12-02"  # of reading
_SCOPE = "https://storage.azure.com/.default"

# A signature for reading is valid for a day, and replaced after half of it.
_SIGNED_SECONDS = 24 * 3600

_COPY_SECONDS = 600.0
_COPY_PAUSE_SECONDS = 0.5


def listed(
    storage: Storage, path: str, *, start: str = "", end: str = "", limit: int | None = None
) -> Iterator[Stored]:
    """See `Store`."""
    return itertools.islice(_listed(path, start, end, min(_PAGE_SIZE, limit or _PAGE_SIZE)), limit)


def _listed(path: str, start: str, end: str, page_size: int) -> Iterator[Stored]:
    container, prefix = split(path)
    from_start: dict[str, Any] = {"start_from": start} if start and _has_one_order(start) else {}
    found = (
        client()
        .get_container_client(container)
        .list_blobs(name_starts_with=prefix or None, results_per_page=page_size, include=["metadata"], **from_start)
    )
    for blob in errors.each(found, path):
        if end and blob.name >= end and _has_one_order(end):
            return
        # Accounts with a hierarchical namespace list their directories, and clients of others make such markers.
        is_directory = not blob.size and (blob.metadata or {}).get("hdi_isfolder") == "true"
        if in_range(blob.name, start, end) and not is_directory:
            changed = blob.last_modified.timestamp()
            yield Stored(f"az://{container}/{blob.name}", by_etag.version(blob.etag), blob.size, changed=changed)


def _has_one_order(name: str) -> bool:
    """Returns whether all names compare with this one in UTF-16 as in UTF-8. Servers may order names by either."""
    return max(name) < "\ud800"


def described(storage: Storage, path: str) -> Stored:
    """See `Store`."""
    with existing(path), errors.of_clients(path):
        found = _blob(path).get_blob_properties()
    return Stored(path, by_etag.version(found.etag), found.size, changed=found.last_modified.timestamp())


def read(storage: Storage, path: str, version: str, limit: int = sys.maxsize) -> bytes:
    """See `Store`."""
    return by_etag.get(_request, path, version, {}, limit).content


def opened(storage: Storage, path: str, version: str) -> BinaryIO:
    """See `Store`."""
    return http_get.in_parts(functools.partial(by_etag.get, _request, path, version), path)


def _request(path: str, headers: dict[str, str]) -> http_get.Request:
    container, name = _object_of(path)
    headers["x-ms-version"] = _API_VERSION
    address, _, signature = _address().partition("?")
    if hasattr(client().credential, "get_token"):
        headers["Authorization"] = f"Bearer {_token()}"
    elif hasattr(client().credential, "account_key"):
        signature = _signature(int(time.time() // (_SIGNED_SECONDS / 2)))
    url = f"{address.rstrip('/')}/{quote(container)}/{quote(name, safe='/~')}"
    return http_get.Request(f"{url}?{signature}" if signature else url, headers)


def create(storage: Storage, path: str) -> BinaryIO:
    """See `Store`."""

    blob = _blob(path)

    def upload(file: BinaryIO) -> None:
        with errors.of_clients(path):
            blob.upload_blob(file, overwrite=True)

    return written_whole(upload)


def write(storage: Storage, path: str, content: bytes, version: str | None) -> str:
    """See `Store`."""
    condition = _if_match(version) if version else {}
    try:
        with errors.of_clients(path):
            return by_etag.version(_blob(path).upload_blob(content, overwrite=bool(version), **condition)["etag"])
    except NotFound as error:
        if not version:  # there is no such bucket
            raise
        raise PreconditionFailed(str(error)) from error


def copy(storage: Storage, source: str, path: str) -> None:
    """See `Store`."""
    with existing(source), errors.of_clients(source):
        into = _blob(path)
        state = into.start_copy_from_url(_blob(source).url)["copy_status"]
        end = time.monotonic() + _COPY_SECONDS
        while state == "pending" and time.monotonic() < end:
            time.sleep(_COPY_PAUSE_SECONDS)
            state = into.get_blob_properties().copy.status
    if state != "success":
        raise errors.StorageError(f"{source}: expected a copy at {path}, its state is {state!r}")


def remove(storage: Storage, path: str, version: str | None = None) -> None:
    """See `Store`."""
    with contextlib.suppress(NotFound, PreconditionFailed), errors.of_clients(path):
        _blob(path).delete_blob(**(_if_match(version) if version else {}))


def ask(storage: Storage, path: str) -> None:
    """See `Store`."""
    container = client().get_container_client(split(path)[0])
    try:
        # A reset must not end a job before its start.
        next(iter(container.list_blobs(results_per_page=1, retry_total=1, connection_timeout=4, read_timeout=4)), None)
    except (ServiceRequestError, ServiceResponseError) as error:
        raise NoConnection.of(error, endpoint()) from error
    except HttpResponseError:
        pass  # a refusal is an answer


def endpoint() -> str:
    """See `Store`."""
    return _address().partition("?")[0]


class _Retry(ExponentialRetry):
    """About the delays and the time of `http_get.RETRY`. By default, the first delay is 15 s."""

    def __init__(self) -> None:
        super().__init__(initial_backoff=1, increment_base=2, retry_total=6, random_jitter_range=1)


@functools.cache
def client() -> BlobServiceClient:
    """Returns the client that all threads of this process share.

    Raises ValueError if the environment names no account.
    """
    connect, silence = http_get.TIMEOUT
    options: dict[str, Any] = {"connection_timeout": connect, "read_timeout": silence, "retry_policy": _Retry()}
    if text := os.environ.get("AZURE_STORAGE_CONNECTION_STRING"):
        try:
            return BlobServiceClient.from_connection_string(text, **options)
        except ValueError as error:
            raise ValueError(f"the variable AZURE_STORAGE_CONNECTION_STRING: {error}") from error
    account = _from_environment("ACCOUNT", "ACCOUNT_NAME")
    if not account:
        raise ValueError(
            "az:// needs an account: expected the variable AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT"
        )
    key = _from_environment("KEY", "ACCOUNT_KEY") or _from_environment("SAS_TOKEN") or _found_credential()
    return BlobServiceClient(f"https://{account}.blob.core.windows.net", credential=key, **options)


def _from_environment(*names: str) -> str | None:
    return next((value for name in names if (value := os.environ.get(f"AZURE_STORAGE_{name}"))), None)


def _found_credential() -> Any:
    """Returns what azure-identity finds on this machine; None, for public containers, if it is not installed."""
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError:
        return None
    return DefaultAzureCredential()


def _address() -> str:
    """Returns the URL of the account, with the signature that was given for it."""
    return str(client().url)


@functools.lru_cache(maxsize=1)
def _signature(half_day: int) -> str:
    """Returns a signature for reading with the account's key; another one for each half day."""
    credential = client().credential
    return generate_account_sas(
        credential.account_name,
        credential.account_key,
        ResourceTypes(object=True),
        AccountSasPermissions(read=True),
        datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=_SIGNED_SECONDS),
    )


def _token() -> str:
    return cast(str, client().credential.get_token(_SCOPE).token)  # kept by the credential until it expires


def _blob(path: str) -> Any:
    return client().get_blob_client(*_object_of(path))


def _object_of(path: str) -> tuple[str, str]:
    """Returns container and name; raises ValueError for a name that clients and servers take for another one."""
    container, name = object_of(path)
    if not {".", ".."}.isdisjoint(name.split("/")):
        raise ValueError(f"{path!r}: expected a name without the parts . and .., which Azure cannot address")
    return container, name


def _if_match(version: str) -> dict[str, Any]:
    return {"etag": f'"{version}"', "match_condition": MatchConditions.IfNotModified}
