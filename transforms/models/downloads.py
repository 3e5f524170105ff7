"""Models from URLs: tensorflow-hub downloads, caches and unpacks them, after this module has checked the archive."""

import tempfile
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO

from tensorflow_hub import compressed_module_resolver, resolver

from transforms.models import archives

# Seconds without a byte from the server.
_TIMEOUT = 60
_CHUNK_BYTES = 2**20


def fetch(url: str, max_bytes: int) -> Path:
    """Returns the directory of a model from a URL of tfhub.dev, kaggle.com or an archive, in tensorflow-hub's cache.

    Neither the archive nor the files in it may have more than `max_bytes`.

    Raises:
      ValueError: see archives.check. If it cannot be downloaded, urllib's and tensorflow-hub's own errors.
    """
    return Path(_CheckedResolver(max_bytes)(url))


class _CheckedResolver(compressed_module_resolver.HttpCompressedFileResolver):
    """tensorflow-hub's own resolver, which would unpack an archive of any size while it downloads it."""

    def __init__(self, max_bytes: int):
        super().__init__()
        self._max_bytes = max_bytes

    def _call_urlopen(self, request: Any) -> BinaryIO:
        """Returns the archive of a response, downloaded and checked. tensorflow-hub unpacks it."""
        archive = tempfile.TemporaryFile(dir=resolver.tfhub_cache_dir(use_temp=True))  # noqa: SIM115 - closed with the last reference
        # tensorflow-hub has taken the URL's scheme from the same two.
        with urllib.request.urlopen(request, context=self._context, timeout=_TIMEOUT) as response:  # noqa: S310
            while chunk := response.read(_CHUNK_BYTES):
                if archive.tell() + len(chunk) > self._max_bytes:
                    raise ValueError(f"it has more than {self._max_bytes} bytes")
                archive.write(chunk)
        archives.check(archive, "the archive", self._max_bytes)
        archive.seek(0)
        return archive
