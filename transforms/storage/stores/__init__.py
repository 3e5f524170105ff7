"""Stores: what kinds of buckets can do, each kind in a module of this folder, found by the scheme of a path.

A module is imported when a path of its scheme is first used, because its client takes time and memory. So a job on
local files imports none, and only `beam_filesystem` imports Beam.
"""

import importlib
import importlib.util
from typing import cast

from transforms.storage.stores.store import NoConnection, Store

__all__ = ["SCHEMES", "WITH_EXTRAS", "NoConnection", "Store", "is_bucket", "of"]

# Scheme → module, and for those whose client is an extra of this package: the package to import, and the extra.
_MODULES = {"gs": "gcs", "s3": "s3", "az": "azure"}
_EXTRAS = {"s3": ("boto3", "s3"), "az": ("azure.storage.blob", "azure")}

SCHEMES = tuple(f"{scheme}://" for scheme in _MODULES)
WITH_EXTRAS = tuple(f"{scheme}://" for scheme in _EXTRAS)


class MissingClient(ValueError):
    """A store whose client is not installed. Once it is, another try may succeed."""

    retryable = True


def of(path: str) -> Store:
    """Returns the store of a path or pattern that is not local.

    Raises:
      ValueError: if its scheme is unknown.
      MissingClient: if the client for it is not installed.
    """
    scheme = path.partition("://")[0]
    if scheme in _EXTRAS:
        package, extra = _EXTRAS[scheme]
        if not _is_installed(package):
            raise MissingClient(f"{path!r}: {scheme}:// needs pip install 'beam-image-embeddings[{extra}]'")
    store = importlib.import_module(f"{__name__}.{_MODULES.get(scheme, 'beam_filesystem')}")
    if scheme not in _MODULES:
        store.check_scheme(path)
    return cast(Store, store)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # a parent of it is missing
        return False


def is_bucket(path: str) -> bool:
    """Returns whether a path or pattern is in a bucket, whose objects appear whole once they are closed."""
    return path.startswith(SCHEMES)
