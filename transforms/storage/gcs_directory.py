"""Directories in Cloud Storage: all objects below a path, copied to this machine or from it.

A path without a bucket is a ValueError, and a request that fails a StorageError.
"""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from google.cloud.storage import Blob, Bucket

from transforms.storage import complete, errors, gcs
from transforms.storage.context import Storage
from transforms.storage.locations import GCS_SCHEME

# Bytes of a large file per request. A request that fails is sent again as a whole.
_CHUNK_BYTES = 16 * 2**20


def below(storage: Storage, path: str) -> list[Blob]:
    """Returns the object at a path and all objects below it, except those that consoles make for directories."""
    prefix = _prefix(path)
    blobs = gcs.blobs(gcs.bucket(storage, path), prefix, "items(name,generation,size),nextPageToken")
    return [
        blob
        for blob in blobs
        if (blob.name == prefix or not prefix or blob.name.startswith(f"{prefix}/")) and not blob.name.endswith("/")
    ]


def download(blobs: Sequence[Blob], path: str, directory: Path) -> None:
    """Copies objects that `below` returned for `path` into a local directory, each in the generation that was listed.

    Raises ValueError if a name leads out of the directory.
    """
    prefix = _prefix(path)
    for blob in blobs:
        relative = blob.name[len(prefix) :].lstrip("/") or Path(blob.name).name
        file = (directory / relative).resolve()
        if not file.is_relative_to(directory.resolve()):
            raise ValueError(f"the name of an object leads out of its directory: {blob.name!r}")
        file.parent.mkdir(parents=True, exist_ok=True)
        # A new Blob, because a listed one may carry a download link without a generation.
        listed_generation = blob.bucket.blob(blob.name, generation=blob.generation)
        with errors.of_clients(f"{GCS_SCHEME}{blob.bucket.name}/{blob.name}"):
            listed_generation.download_to_filename(str(file), timeout=gcs.TIMEOUT, retry=gcs.RETRY)


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
      path: gs://BUCKET/NAME.
      markers: names, one of which is in `contents`.
      named, overwrite, entries: see complete.check_entries.

    Raises:
      complete.Occupied: if an existing directory may not be replaced.
    """
    bucket, prefix = gcs.bucket(storage, path), _prefix(path)
    present = {blob.name[len(prefix) :].lstrip("/"): blob for blob in below(storage, path)}
    if present:
        tops = {name.partition("/")[0] for name in present}
        complete.check_entries(tops, named=named, overwrite=overwrite, entries=entries, markers=markers)
    for marker in present.keys() & markers:
        _delete(bucket, present.pop(marker).name)
    for name in sorted(contents, key=lambda name: (name in markers, name)):
        if name in markers:
            for stale in present.keys() - contents.keys():
                _delete(bucket, present[stale].name)
        blob, content = bucket.blob(f"{prefix}/{name}".lstrip("/"), chunk_size=_CHUNK_BYTES), contents[name]
        with errors.of_clients(f"{path}/{name}"):
            if isinstance(content, Path):
                blob.upload_from_filename(str(content), timeout=gcs.TIMEOUT, retry=gcs.RETRY)
            else:
                blob.upload_from_string(content, timeout=gcs.TIMEOUT, retry=gcs.RETRY)


def _prefix(path: str) -> str:
    return gcs.split(path)[1].rstrip("/")


def _delete(bucket: Bucket, name: str) -> None:
    # If the first request's reply was lost, the retry does not find the object.
    with contextlib.suppress(errors.NotFound), errors.of_clients(f"{GCS_SCHEME}{bucket.name}/{name}"):
        bucket.blob(name).delete(timeout=gcs.TIMEOUT, retry=gcs.RETRY)
