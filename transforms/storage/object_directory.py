"""Directories in a bucket: all objects below a path, copied to this machine or from it.

A path without a bucket is a ValueError, and a request that fails a StorageError.
"""

import base64
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import google_crc32c

from transforms.storage import complete, stores, versioned
from transforms.storage.context import Storage
from transforms.storage.stores.store import Stored, split


def below(storage: Storage, path: str) -> list[Stored]:
    """Returns the object at a path and all objects below it, except those that consoles make for directories."""
    scheme, (bucket, name) = path.partition("://")[0], split(path.rstrip("/") if split(path)[1] else path)
    top = f"{scheme}://{bucket}/{name}"
    return [
        stored
        for stored in stores.of(path).listed(storage, top)
        if (stored.path == top or not name or stored.path.startswith(f"{top}/")) and not stored.path.endswith("/")
    ]


def download(storage: Storage, objects: Sequence[Stored], path: str, directory: Path) -> None:
    """Copies objects that `below` returned for `path` into a local directory, each in the version that was listed.

    Raises:
      ValueError: if a name leads out of the directory.
      ChangedSinceListed: if an object has changed.
    """
    prefix = path.rstrip("/")
    for stored in objects:
        relative = stored.path[len(prefix) :].lstrip("/") or stored.path.rpartition("/")[2]
        file = (directory / relative).resolve()
        if not file.is_relative_to(directory.resolve()):
            raise ValueError(f"the name of an object leads out of its directory: {stored.path!r}")
        file.parent.mkdir(parents=True, exist_ok=True)
        checksum = google_crc32c.Checksum()
        with file.open("wb") as copy, versioned.opened(storage, versioned.ref_of(stored)) as content:
            while block := content.read(2**20):
                copy.write(block)
                checksum.update(block)
        crc32c = base64.b64encode(checksum.digest()).decode()
        if stored.crc32c and crc32c != stored.crc32c:
            raise versioned.ChangedSinceListed(f"{stored.path}: expected crc32c {stored.crc32c}, found {crc32c}")


def upload(
    storage: Storage,
    contents: Mapping[str, Path | bytes],
    path: str,
    *,
    markers: Collection[str],
    named: str,
    overwrite: bool,
    entries: Collection[str],
) -> None:
    """Copies files to a path, the marker last. A directory without a marker counts as unfinished.

    The marker of an existing directory is deleted first. Its objects that the new directory lacks are deleted before
    the new marker is written.

    Args:
      storage: see `Storage`.
      contents: name below the path → a local file, or bytes.
      path: of the directory in a bucket.
      markers: names, one of which is in `contents`.
      named, overwrite, entries: see complete.check_entries.

    Raises:
      complete.Occupied: if an existing directory may not be replaced.
    """
    store, top = stores.of(path), path.rstrip("/")
    present = {stored.path[len(top) :].lstrip("/"): stored.path for stored in below(storage, path)}
    if present:
        tops = {name.partition("/")[0] for name in present}
        complete.check_entries(tops, named=named, overwrite=overwrite, entries=entries, markers=markers)
    for marker in present.keys() & markers:
        store.remove(storage, present.pop(marker))
    for name in sorted(contents, key=lambda name: (name in markers, name)):
        if name in markers:
            for stale in present.keys() - contents.keys():
                store.remove(storage, present[stale])
        content = contents[name]
        with store.create(storage, f"{top}/{name}") as file:
            if isinstance(content, Path):
                with content.open("rb") as source:
                    shutil.copyfileobj(source, file, 2**20)
            else:
                file.write(content)
