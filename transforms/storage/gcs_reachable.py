"""Checks at the launch of a job that Cloud Storage answers at all, by one request with a short time limit. No Beam."""

import concurrent.futures
import os
import threading
import urllib.parse
from collections.abc import Iterator

from requests import exceptions

from transforms.storage import gcs
from transforms.storage.context import Storage

# Seconds within which the server has to answer. A hostname may have a dozen addresses, each with its own time-out, and
# asking for a name or a token takes time too. Therefore this limits all of it together.
PATIENCE = 12

_TIMEOUT = (5, 5)  # of one try
_RETRY = gcs.RETRY.with_timeout(6)

_NO_CONNECTION = (exceptions.ConnectionError, exceptions.Timeout, ConnectionError, TimeoutError)


class Unreachable(OSError):
    """A server that cannot be connected to, or does not answer."""


def check(storage: Storage, path: str) -> None:
    """Raises Unreachable, after PATIENCE seconds at most, if there is no answer for a path's bucket.

    A refusal is an answer too. A path without a bucket is a ValueError.
    """
    bucket = gcs.bucket(storage, path)
    answer: concurrent.futures.Future[None] = concurrent.futures.Future()

    def ask() -> None:
        try:
            blobs = gcs.client().list_blobs(bucket, fields="items(name)", max_results=1, timeout=_TIMEOUT, retry=_RETRY)
            next(iter(blobs), None)
            answer.set_result(None)
        except Exception as error:  # noqa: BLE001 - a thread has to report anything
            answer.set_exception(error)

    threading.Thread(target=ask, name="gcs-reachable", daemon=True).start()  # the process may end before it does
    try:
        refused = answer.exception(PATIENCE)
    except concurrent.futures.TimeoutError as error:
        raise Unreachable(_message(_host(), f"no answer within {PATIENCE} s")) from error
    causes = list(_causes(refused))
    if any(isinstance(cause, _NO_CONNECTION) for cause in causes):
        raise Unreachable(_message(*_what_failed(causes))) from refused


def _message(host: str, reason: str) -> str:
    return f"no connection to {host} ({reason}): check the network or STORAGE_EMULATOR_HOST"


def _what_failed(causes: list[BaseException]) -> tuple[str, str]:
    """Returns the server and the reason, from the errors of requests and of the operating system."""
    urls = [cause.request.url for cause in causes if isinstance(cause, exceptions.RequestException) and cause.request]
    by_system = [cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror]
    host = urllib.parse.urlsplit(str(urls[0])).netloc if urls else _host()
    return host, by_system[-1] if by_system else "no answer in time"


def _host() -> str:
    return os.environ.get("STORAGE_EMULATOR_HOST") or "storage.googleapis.com"


def _causes(cause: BaseException | None) -> Iterator[BaseException]:
    """Yields an error, and the errors behind it. Google's RetryError has the last one in `cause`."""
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        behind = getattr(cause, "cause", None)
        cause = behind if isinstance(behind, BaseException) else cause.__cause__ or cause.__context__
