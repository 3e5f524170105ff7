"""S3, and servers that speak its protocol, by boto3: one client per process. No Beam.

The version of an object is its ETag, without the quotes. Bytes are read by `http_get`, because boto3 needs a
millisecond of a core for each object. libcurl signs these requests with the credentials that boto3 finds.
"""

import contextlib
import functools
import itertools
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, urlsplit

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from transforms.concurrent.in_flight import CONCURRENCY_MAX
from transforms.elements.one_line import one_line
from transforms.storage import errors, http_get
from transforms.storage.context import Storage
from transforms.storage.errors import NotFound, PreconditionFailed
from transforms.storage.libcurl import pycurl
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

ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL"

_PAGE_SIZE = 1000  # the most objects that S3 returns per request
_MAX_NAME_BYTES = 1024
_LAST_CHARACTER = chr(0x10FFFF)

# Parts of names that libcurl would resolve in a URL that it signs.
_DOTS = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")

# Of the client. It waits up to 20 s before a further try.
_TRIES = 8


def listed(
    storage: Storage, path: str, *, start: str = "", end: str = "", limit: int | None = None
) -> Iterator[Stored]:
    """See `Store`."""
    return itertools.islice(_listed(path, start, end, min(_PAGE_SIZE, (limit or _PAGE_SIZE) + 1)), limit)


def _listed(path: str, start: str, end: str, page_size: int) -> Iterator[Stored]:
    bucket, prefix = split(path)
    names = {"Bucket": bucket, "Prefix": prefix, "StartAfter": _before(start)}
    pages = client().get_paginator("list_objects_v2").paginate(**names, PaginationConfig={"PageSize": page_size})
    for page in errors.each(pages, path):
        for each in page.get("Contents", ()):
            if end and each["Key"] >= end:
                return
            if in_range(each["Key"], start, end):
                version, changed = by_etag.version(each["ETag"]), each["LastModified"].timestamp()
                yield Stored(f"s3://{bucket}/{each['Key']}", version, each["Size"], changed=changed)


def _before(name: str) -> str:
    """Returns a string that sorts before a name, with hardly a name between them; "" sorts before all."""
    if not name or ord(name[-1]) == 0:
        return name[:-1]
    before = name[:-1] + chr(ord(name[-1]) - 1) + _LAST_CHARACTER
    is_text = not 0xD800 <= ord(before[-2]) < 0xE000
    return before if is_text and len(before.encode()) <= _MAX_NAME_BYTES else name[:-1]


def described(storage: Storage, path: str) -> Stored:
    """See `Store`."""
    bucket, name = object_of(path)
    with existing(path), errors.of_clients(path):
        head = client().head_object(Bucket=bucket, Key=name)
    return Stored(path, by_etag.version(head["ETag"]), head["ContentLength"], changed=head["LastModified"].timestamp())


def read(storage: Storage, path: str, version: str, limit: int = sys.maxsize) -> bytes:
    """See `Store`."""
    return by_etag.get(_request, path, version, {}, limit).content


def opened(storage: Storage, path: str, version: str) -> BinaryIO:
    """See `Store`."""
    return http_get.in_parts(functools.partial(by_etag.get, _request, path, version), path)


def _request(path: str, headers: dict[str, str]) -> http_get.Request:
    bucket, name = object_of(path)
    if _DOTS.search(name):
        return http_get.Request(client().generate_presigned_url("get_object", {"Bucket": bucket, "Key": name}), headers)
    place, options = _place(bucket), {}
    if credentials := _credentials():
        key = credentials.get_frozen_credentials()
        options = {
            pycurl.AWS_SIGV4: f"aws:amz:{place.region}:s3",
            pycurl.USERNAME: key.access_key,
            pycurl.PASSWORD: key.secret_key,
            pycurl.PATH_AS_IS: 0,  # which libcurl requires
        }
        if key.token:
            headers["X-Amz-Security-Token"] = key.token
    return http_get.Request(f"{place.url}/{quote(name, safe='/~')}", headers, options)


class _Place(NamedTuple):
    """Where the objects of a bucket are."""

    url: str
    region: str


@functools.cache
def _place(bucket: str) -> _Place:
    if not _is_of_aws(client()):
        return _Place(f"{endpoint()}/{quote(bucket)}", client().meta.region_name or "us-east-1")
    try:
        reply = client().head_bucket(Bucket=bucket)
    except ClientError as error:  # a refusal names the region too
        reply = error.response
    region = reply["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region") or client().meta.region_name
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    if "." in bucket:  # no certificate is for such a host
        return _Place(f"https://s3.{region}.{suffix}/{bucket}", region)
    return _Place(f"https://{bucket}.s3.{region}.{suffix}", region)


def create(storage: Storage, path: str) -> BinaryIO:
    """See `Store`."""
    bucket, name = object_of(path)

    def upload(file: BinaryIO) -> None:
        with errors.of_clients(path):
            client().upload_fileobj(file, bucket, name)

    return written_whole(upload)


def write(storage: Storage, path: str, content: bytes, version: str | None) -> str:
    """See `Store`."""
    bucket, name = object_of(path)
    condition = {"IfMatch": f'"{version}"'} if version else {"IfNoneMatch": "*"}
    try:
        with errors.of_clients(path):
            return by_etag.version(client().put_object(Bucket=bucket, Key=name, Body=content, **condition)["ETag"])
    except NotFound as error:
        if not version:  # there is no such bucket
            raise
        raise PreconditionFailed(str(error)) from error


def copy(storage: Storage, source: str, path: str) -> None:
    """See `Store`."""
    (source_bucket, original), (bucket, name) = object_of(source), object_of(path)
    with existing(source), errors.of_clients(source):
        client().copy({"Bucket": source_bucket, "Key": original}, bucket, name)


def remove(storage: Storage, path: str, version: str | None = None) -> None:
    """See `Store`. The version is compared first too, because not all servers honour the condition."""
    bucket, name = object_of(path)
    with contextlib.suppress(NotFound, PreconditionFailed), errors.of_clients(path):
        if version and by_etag.version(client().head_object(Bucket=bucket, Key=name)["ETag"]) != version:
            return
        client().delete_object(Bucket=bucket, Key=name, **({"IfMatch": f'"{version}"'} if version else {}))


def ask(storage: Storage, path: str) -> None:
    """See `Store`."""
    try:
        # A reset must not end a job before its start.
        retries = {"mode": "standard", "total_max_attempts": 2}
        asking = _new_client(Config(connect_timeout=5, read_timeout=5, retries=retries))
        asking.list_objects_v2(Bucket=split(path)[0], MaxKeys=1)
    except (ConnectionError, HTTPClientError) as error:
        raise NoConnection.of(error, endpoint()) from error


def endpoint() -> str:
    """See `Store`."""
    return str(client().meta.endpoint_url).rstrip("/")


@functools.cache
def client() -> Any:
    """Returns the client that all threads of this process share. Without credentials it reads public buckets only."""
    retries = {"mode": "standard", "total_max_attempts": _TRIES}
    connect, silence = http_get.TIMEOUT
    return _new_client(
        Config(connect_timeout=connect, read_timeout=silence, retries=retries, max_pool_connections=CONCURRENCY_MAX)
    )


def _new_client(config: Config) -> Any:
    # Servers of others do not know the checksums that boto3 adds since 2025.
    config = config.merge(
        Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
    )
    with _making:  # sessions are not for several threads
        try:
            config = config.merge(Config(signature_version="s3v4" if _credentials() else UNSIGNED))
            made = _session().client("s3", config=config)
            if _is_of_aws(made):
                return made
            return _session().client("s3", config=config.merge(Config(s3={"addressing_style": "path"})))
        except (BotoCoreError, ValueError) as error:  # such as a profile that does not exist, or half a key
            text = errors.without_credentials(one_line(error))
            raise ValueError(f"s3:// with this environment (AWS_PROFILE, AWS_ENDPOINT_URL, …): {text}") from error


_making = threading.Lock()


def _is_of_aws(made: Any) -> bool:
    return (urlsplit(made.meta.endpoint_url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))


@functools.cache
def _session() -> Any:
    return boto3.session.Session()


@functools.cache
def _credentials() -> Any:
    """Returns what boto3 finds in the environment, in files or on the machine; None if there is nothing."""
    return _session().get_credentials()
