"""Checks at the launch of a job that a bucket's server answers at all, within seconds. No Beam."""

import concurrent.futures
import threading

from transforms.storage import errors, stores
from transforms.storage.context import Storage
from transforms.storage.stores.store import split

# Seconds within which the server has to answer. A hostname may have a dozen addresses, each with its own time-out, and
# asking for a name or a token takes time too. Therefore this limits all of it together.
PATIENCE = 12


class Unreachable(OSError):
    """A server that cannot be connected to, or does not answer."""


def check(storage: Storage, path: str) -> None:
    """Raises Unreachable, after PATIENCE seconds at most, if there is no answer for a path's bucket.

    A refusal is an answer too. A path without a bucket is a ValueError.
    """
    if not stores.is_bucket(path):
        return
    split(path)
    store = stores.of(path)
    answer: concurrent.futures.Future[None] = concurrent.futures.Future()

    def ask() -> None:
        try:
            store.ask(storage, path)
            answer.set_result(None)
        except Exception as error:  # noqa: BLE001 - a thread has to report anything
            answer.set_exception(error)

    threading.Thread(target=ask, name="reachable", daemon=True).start()  # the process may end before it does
    try:
        refused = answer.exception(PATIENCE)
    except concurrent.futures.TimeoutError as error:
        raise Unreachable(_message(store.endpoint(), f"no answer within {PATIENCE} s", path)) from error
    if isinstance(refused, stores.NoConnection):
        raise Unreachable(_message(refused.host, refused.reason, path)) from refused


def _message(host: str, reason: str, path: str) -> str:
    host = errors.without_credentials(host)
    return f"no connection to {host} ({reason}): check the network or {stores.of(path).ENDPOINT_VARIABLE}"
