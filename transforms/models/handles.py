"""Model handles → files on this machine: the hubs, buckets, archives and directories where users keep their models."""

import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import urllib.error
import uuid
from collections.abc import Callable
from pathlib import Path

from transforms.models import catalog

# A bound on what an archive from a stranger may unpack to; the largest image models are a few GB.
MAX_MODEL_BYTES = 16 * 2**30

Fill = Callable[[Path], None]

_ARCHIVES = (".tar.gz", ".tgz", ".tar")
# Kaggle's short handles: owner/model/framework/variation[/version].
_KAGGLE = re.compile(r"[\w.-]+/[\w.-]+/(tensorFlow1|tensorFlow2|keras)/[\w.-]+(/\d+)?", re.IGNORECASE)


def local_path(handle: str) -> Path:
    """Returns the SavedModel directory or `.keras` file that a handle means, fetched where it is elsewhere.

    Args:
      handle: a directory, a `.keras` file or a `.tar.gz` of a SavedModel, each local or `gs://`; a URL of tfhub.dev or
        kaggle.com, or of an archive, which tensorflow-hub fetches into TFHUB_CACHE_DIR; a short Kaggle handle, which
        kagglehub fetches into KAGGLEHUB_CACHE.

    Raises:
      ValueError: if there is nothing to be had under the handle; it says how to bring a model to where it is needed.
    """
    if handle.startswith(("http://", "https://")):
        return _fetched(handle, _by_tensorflow_hub)
    if handle.startswith("gs://"):
        return _fetched(handle, _from_bucket)
    path = Path(handle).expanduser()
    if path.is_file() and _is_archive(handle):
        return _unpacked(path)
    if path.exists():
        return path
    if _KAGGLE.fullmatch(handle):
        return _fetched(handle, _by_kagglehub)
    names = ", ".join((*catalog.BUNDLED, *catalog.HUB))
    raise ValueError(f"model={handle!r}: no such directory, archive or hub handle, and none of the names {names}")


def files_digest(path: Path) -> str:
    """Returns the hex SHA-256 over a model's files: names below the directory, and contents.

    Left out are `assets.extra`, since what is noted there about a model is no part of it, and `fingerprint.pb`, in
    which TensorFlow puts a random number each time that it saves.
    """
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        name = file.relative_to(path).as_posix() if path.is_dir() else "model"
        if name == "fingerprint.pb" or name.startswith("assets.extra/"):
            continue
        with file.open("rb") as content:
            content_digest = hashlib.file_digest(content, "sha256")
        digest.update(f"{name}\0{content_digest.hexdigest()}\n".encode())
    return digest.hexdigest()


def _is_archive(handle: str) -> bool:
    return handle.endswith(_ARCHIVES)


def _fetched(handle: str, fetch: Callable[[str], Path]) -> Path:
    try:
        return fetch(handle)
    except Exception as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        said = str(reason).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"model={handle!r} is not cached here and cannot be fetched ({said[0][:200]}); where there is a network, "
            f"`python -m pipeline.stage_model {handle} DIR` copies it to DIR, which --model then takes"
        ) from error


def _by_tensorflow_hub(handle: str) -> Path:
    import tensorflow_hub as hub

    return Path(hub.resolve(handle))


def _by_kagglehub(handle: str) -> Path:
    import kagglehub

    return Path(kagglehub.model_download(handle))


def _from_bucket(handle: str) -> Path:
    """Copies a directory, archive or file from Cloud Storage; once, as long as no object of it changes."""
    from google.cloud import storage

    client = storage.Client()
    bucket, _, name = handle.removeprefix("gs://").partition("/")
    prefix = name.rstrip("/")
    blobs = [
        blob
        for blob in client.list_blobs(bucket, prefix=prefix)
        if (blob.name == prefix or blob.name.startswith(f"{prefix}/")) and not blob.name.endswith("/")
    ]
    if not blobs:
        raise FileNotFoundError("there is no such object, and none below it")
    state = "\n".join(f"{blob.name} {blob.generation} {blob.size}" for blob in blobs)
    target = _cache() / hashlib.sha256(f"{handle}\n{state}".encode()).hexdigest()

    def download(directory: Path) -> None:
        if sum(blob.size for blob in blobs) > MAX_MODEL_BYTES:
            raise ValueError(f"more than {MAX_MODEL_BYTES} bytes")
        for blob in blobs:
            relative = blob.name[len(prefix) :].lstrip("/") or Path(blob.name).name
            file = (directory / relative).resolve()
            if not file.is_relative_to(directory.resolve()):
                raise ValueError(f"an object whose name leads out of the model's directory: {blob.name!r}")
            file.parent.mkdir(parents=True, exist_ok=True)
            blob.download_to_filename(str(file))

    fill(target, download)
    if len(blobs) == 1 and blobs[0].name == prefix:
        file = target / Path(prefix).name
        return _unpacked(file) if _is_archive(handle) else file
    return target


def _unpacked(archive: Path) -> Path:
    """Unpacks a tar file, once for each content, and returns the directory in it that holds the model."""
    target = _cache() / files_digest(archive)

    def unpack(directory: Path) -> None:
        with tarfile.open(archive, "r:*") as tar:
            if sum(member.size for member in tar) > MAX_MODEL_BYTES:
                raise ValueError(f"model={str(archive)!r}: unpacks to more than {MAX_MODEL_BYTES} bytes")
            tar.extractall(directory, filter="data")  # refuses members that lead out of the directory

    try:
        fill(target, unpack)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"model={str(archive)!r}: not a readable tar file: {error}") from error
    inner = [path for path in target.iterdir() if path.is_dir()]
    return inner[0] if len(inner) == 1 and not (target / "saved_model.pb").exists() else target


def fill(target: Path, put: Fill) -> None:
    """Makes a directory all at once, by what puts its files there: several processes may try, none sees half of it."""
    if target.exists():
        return
    part = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
    part.mkdir(parents=True)
    try:
        put(part)
        part.rename(target)
    except OSError:
        if not target.exists():  # else another process was first
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _cache() -> Path:
    """Returns where models from buckets and archives are kept, beside tensorflow-hub's own."""
    return Path(os.environ.get("TFHUB_CACHE_DIR") or Path(tempfile.gettempdir()) / "tfhub_modules") / "files"
