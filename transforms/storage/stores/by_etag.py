"""What S3 and Azure share: the version of an object is its ETag, without the quotes, and a condition of a request."""

import sys
from collections.abc import Callable, Mapping

from transforms.storage import http_get
from transforms.storage.stores.store import of_read


def get(
    request: Callable[[str, dict[str, str]], http_get.Request],
    path: str,
    version: str,
    headers: Mapping[str, str],
    limit: int = sys.maxsize,
) -> http_get.Reply:
    """Returns the reply to a GET of an object in a version, "" for any. Its content ends at `limit` bytes.

    Args:
      request: returns the request for a path with these headers.
      path, version, headers, limit: of the request.

    Raises: see `Store`.
    """
    of_version = {"If-Match": f'"{version}"'} if version else {}
    try:
        return http_get.get(request(path, {**headers, **of_version}), limit)
    except Exception as error:
        raise of_read(path, version, error) from error


def version(etag: str) -> str:
    """Returns the version of an object with this ETag."""
    return etag.strip('"')
