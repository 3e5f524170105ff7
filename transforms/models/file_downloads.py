"""Models that are files at URLs, with the files beside them. tensorflow-hub downloads only archives."""

import functools
import urllib.parse
import urllib.request
from pathlib import Path, PurePosixPath

from transforms.models import portable
from transforms.storage import complete

# Seconds without a byte from the server.
_TIMEOUT = 60
_CHUNK_BYTES = 2**20


def is_file(url: str) -> bool:
    """Returns whether a URL is that of a portable model's main file."""
    return portable.is_portable(urllib.parse.urlsplit(url).path)


def fetch(url: str, directory: Path, max_bytes: int) -> Path:
    """Returns the main file of a portable model, downloaded with its companions.

    Args:
      url: http:// or https://. Its companions are at the same place, with the same query.
      directory: made once, with the files in it. A later call reads nothing from the server.
      max_bytes: the largest size of all files together.

    Raises:
      ValueError: if the files are too large, or a name leads out of the directory. If one cannot be downloaded,
        urllib's own errors.
    """
    name = urllib.parse.unquote(PurePosixPath(urllib.parse.urlsplit(url).path).name)
    if "/" in name or "\0" in name:
        raise ValueError(f"the name of the file is {name!r}: expected no slash in it")
    complete.fill_once(directory, functools.partial(_download_all, url, name, max_bytes))
    return directory / name


def _download_all(url: str, name: str, max_bytes: int, directory: Path) -> None:
    left = max_bytes - _download(url, directory / name, max_bytes)
    for companion in portable.companions(directory / name):
        file = directory / companion
        file.parent.mkdir(parents=True, exist_ok=True)
        left -= _download(_sibling(url, companion), file, left)


def _sibling(url: str, name: str) -> str:
    """Returns the URL of a file whose name is relative to the directory of another URL."""
    parts = urllib.parse.urlsplit(url)
    path = f"{parts.path.rpartition('/')[0]}/{urllib.parse.quote(name)}"
    return urllib.parse.urlunsplit(parts._replace(path=path))


def _download(url: str, file: Path, max_bytes: int) -> int:
    """Writes the content of a URL into a new file, and returns its size."""
    size = 0
    # handles.local_path takes only http:// and https://, and urllib follows no redirection to a file.
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, file.open("xb") as target:  # noqa: S310
        while chunk := response.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > max_bytes:
                raise ValueError(f"it has more than {max_bytes} bytes")
            target.write(chunk)
        stated = response.headers.get("Content-Length")
    if stated is not None and int(stated) != size:
        raise OSError(f"{url}: the server sent {size} of {stated} bytes")
    return size
