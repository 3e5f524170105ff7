"""Storage: local files, other filesystems through Beam, Cloud Storage through its own client, and images at URLs.

The modules that import this client, Beam or libcurl are imported at their first use, as `storage.gcs`
and so on. So a job on local files does not import the client, and a decoder process does not import Beam.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transforms.storage import files, gcs, gcs_listing, gcs_reachable, https

__all__ = ["files", "gcs", "gcs_listing", "gcs_reachable", "https"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
