"""Model handles → files on this machine. A handle names a hub, a bucket, an archive or a directory."""

import functools
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from transforms.elements.one_line import one_line
from transforms.models import archives, catalog, portable, preprocessing_files
from transforms.storage import complete, locations, private, stores
from transforms.storage.context import DEFAULT_STORAGE, Storage
from transforms.storage.stores.store import Stored

# The limit for the size of an untrusted model, packed and unpacked. The largest image models are a few GB.
MAX_MODEL_BYTES = 16 * 2**30

# The top-level entries of a SavedModel, from any writer. Loaders look for saved_model.pb.
SAVED_MODEL = "saved_model.pb"
SAVED_MODEL_ENTRIES = frozenset(
    {SAVED_MODEL, "fingerprint.pb", "keras_metadata.pb", "tfhub_module.pb", "variables", "assets", "assets.extra"}
    | set(preprocessing_files.NAMES)
)

_ARCHIVES = (".tar.gz", ".tgz", ".tar")
# Kaggle's short handles: owner/model/framework/variation[/version].
_KAGGLE = re.compile(r"[\w.-]+/[\w.-]+/(tensorFlow1|tensorFlow2|keras)/[\w.-]+(/\d+)?", re.IGNORECASE)


def local_path(handle: str, storage: Storage = DEFAULT_STORAGE) -> Path:
    """Returns the directory or the file of a handle's model. A remote one is downloaded.

    Args:
      handle: one of these.
        - A directory or `.tar.gz` of a SavedModel or a portable model, a `.keras` file, or the main file of a portable
          model, each local or in a bucket. The other files of a portable model come along.
        - A URL of tfhub.dev or kaggle.com, of an archive, or of the file of a portable model. It is downloaded into
          TFHUB_CACHE_DIR.
        - A short Kaggle handle. kagglehub downloads it into KAGGLEHUB_CACHE.
      storage: how buckets are reached.

    Raises:
      ValueError: if the handle leads to no model. The message says how to copy a model to a place without network.
    """
    if handle.startswith(("http://", "https://")):
        path = _fetch(handle, _download_from_url)
    elif stores.is_bucket(handle):
        path = _fetch(handle, functools.partial(_download_from_bucket, storage=storage))
    elif (path := Path(os.path.expanduser(handle))).exists():  # noqa: PTH111 - keeps the path of an unknown user
        path = _unpack(path) if path.is_file() and _is_archive(handle) else path
    elif _KAGGLE.fullmatch(handle):
        path = _fetch(handle, _download_from_kaggle)
    else:
        names = ", ".join((*catalog.BUNDLED, *catalog.HUB))
        raise ValueError(f"model={handle!r}: no such directory, archive or hub handle, and none of the names {names}")
    _check_files(path)
    return path


def files_digest(path: Path) -> str:
    """Returns the hex SHA-256 over a model's files: their names below the directory, and their contents.

    It leaves out `assets.extra`, whose notes are no part of the model. It leaves out `fingerprint.pb`, because
    TensorFlow writes a random number there with every save. It leaves out the files of `preprocessing_files`, because
    the digest of a ModelSpec covers their content. A second call reads the contents again only if a file was edited.
    """
    return _files_digest(path.absolute(), files_state(str(path.absolute())))


@functools.lru_cache(maxsize=8)
def _files_digest(path: Path, state: object) -> str:
    contents = {}
    for name, file in files_of(path).items():
        if _is_in_digest(name):
            with file.open("rb") as content:
                contents[name] = hashlib.file_digest(content, "sha256").hexdigest()
    return digest_of(contents)


def digest_of(contents: Mapping[str, str]) -> str:
    """Returns what `files_digest` does, from the name of each file and the hex SHA-256 of its content."""
    lines = (f"{name}\0{content}\n" for name, content in sorted(contents.items()) if _is_in_digest(name))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _is_in_digest(name: str) -> bool:
    return name not in ("fingerprint.pb", *preprocessing_files.NAMES) and not name.startswith("assets.extra/")


def files_state(location: str) -> tuple[tuple[object, ...], ...]:
    """Returns the state of a model's files on this machine. It changes when a file is edited, and reads no contents.

    Returns:
      Name, inode, size in bytes, mtime and ctime in nanoseconds of each file; () for a bundled or remote model. A copy
      that keeps the mtime has another ctime.
    """
    path = Path(location)
    if not location or not path.exists():
        return ()
    stats = [(str(file), file.stat()) for file in sorted(files_of(path).values())]
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in stats)


def files_of(path: Path) -> dict[str, Path]:
    """Returns name → file for the files of a model. The names do not depend on where the model is."""
    if model := portable.find(path):
        return dict(model.files)
    if path.is_file():
        return {"model": path}
    return {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}


def _check_files(path: Path) -> None:
    """Checks that a model consists of regular files, before one is read. Reading a device or a pipe may never end.

    Raises:
      ValueError: if something in it is no regular file, or all of it is too large. A link to a file counts as a regular
        file. A link to a directory does not, because `files_digest` would not see the files there.
    """
    if path.suffix == ".keras" and not path.is_file():
        raise ValueError(f"model={str(path)!r}: expected regular files, and {str(path)!r} is none")
    model = portable.find(path)
    if not model and path.is_dir() and not (path / SAVED_MODEL).exists():
        return  # no model, but perhaps somebody's home directory: the loader says what it expects
    size = 0
    for file in model.files.values() if model else path.rglob("*") if path.is_dir() else [path]:
        if not file.is_file() and (file.is_symlink() or not file.is_dir()):
            raise ValueError(f"model={str(path)!r}: expected regular files, and {str(file)!r} is none")
        size += file.stat().st_size if file.is_file() else 0
    if size > MAX_MODEL_BYTES:
        raise ValueError(f"model={str(path)!r} has {size} bytes: expected at most {MAX_MODEL_BYTES}")
    if path.suffix == ".keras":
        archives.check_keras(path, f"model={str(path)!r}", MAX_MODEL_BYTES)


def _is_archive(handle: str) -> bool:
    return handle.endswith(_ARCHIVES)


def _fetch(handle: str, download: Callable[[str], Path]) -> Path:
    """Returns the local path of a remote model. Raises ValueError for any error of `download`."""
    try:
        return download(handle)
    except private.NotPrivate:
        raise  # the handle is not at fault
    except Exception as error:  # each client has errors of its own, and fills a temporary directory first
        raise ValueError(
            f"model={handle!r} is not cached here and cannot be fetched ({one_line(error, 200)}); where there is a "
            f"network, `python -m pipeline stage-model {handle} DIR` copies it to DIR: give DIR to --model"
        ) from error


def _download_from_url(handle: str) -> Path:
    from transforms.models import file_downloads

    if file_downloads.is_file(handle):
        target = _cache() / hashlib.sha256(handle.encode()).hexdigest()
        return file_downloads.fetch(handle, target, MAX_MODEL_BYTES)
    from transforms.models import downloads  # tensorflow-hub

    _tensorflow_hub_cache()
    return downloads.fetch(handle, MAX_MODEL_BYTES)


def _download_from_kaggle(handle: str) -> Path:
    import kagglehub

    private.make(Path(kagglehub.config.get_cache_folder()), "KAGGLEHUB_CACHE")
    return Path(kagglehub.model_download(handle))


def _download_from_bucket(handle: str, storage: Storage) -> Path:
    """Copies a directory, archive or file from a bucket. It copies again only when an object of it changes."""
    from transforms.storage import object_directory  # NumPy

    objects = object_directory.below(storage, handle)
    if not objects:
        raise FileNotFoundError("there is no such object and no object below it")
    target = _bucket_target(handle, objects)
    complete.fill_once(target, functools.partial(object_directory.download, storage, objects, handle))
    if [found.path for found in objects] != [handle.rstrip("/")]:  # a directory, not a single object
        return target
    file = target / Path(objects[0].path).name
    if portable.is_portable(file.name) or file.suffix == ".keras":
        return _download_companions(handle, file, storage)
    return _unpack(file) if _is_archive(handle) else file


def _download_companions(handle: str, main: Path, storage: Storage) -> Path:
    """Returns the main file of a model from a bucket, with its companions and its preprocessing files beside it.

    `handle` is the URI of the main file, and `main` a copy of it, which is not downloaded again.
    """
    from transforms.storage import object_directory

    names = portable.companions(main) if portable.is_portable(main.name) else []
    objects = {}
    for name in dict.fromkeys((*names, *preprocessing_files.NAMES)):
        uri = f"{handle.rpartition('/')[0]}/{name}"
        own = [found for found in object_directory.below(storage, uri) if found.path == uri]
        if len(own) == 1:
            objects[name] = own[0]
        elif name in names:
            raise FileNotFoundError(f"there is no object {uri!r}")
    if not objects:
        return main

    def fill(directory: Path) -> None:
        shutil.copyfile(main, directory / main.name)
        for name, found in objects.items():
            object_directory.download(storage, [found], found.path, (directory / name).parent)

    target = _bucket_target(f"{handle} {main.parent.name}", list(objects.values()))
    complete.fill_once(target, fill)
    return target / main.name


def _bucket_target(handle: str, objects: Sequence[Stored]) -> Path:
    """Returns the directory of the cache for objects in their versions. Raises ValueError if they are too large."""
    if sum(found.size for found in objects) > MAX_MODEL_BYTES:
        raise ValueError(f"it has more than {MAX_MODEL_BYTES} bytes")
    state = "\n".join(f"{found.path} {found.version} {found.size}" for found in objects)
    return _cache() / hashlib.sha256(f"{handle}\n{state}".encode()).hexdigest()


def _unpack(archive: Path) -> Path:
    """Unpacks a tar file and returns the directory in it that holds the model. Each content is unpacked once."""
    named = f"model={str(archive)!r}"
    if archive.stat().st_size > MAX_MODEL_BYTES:
        raise ValueError(f"{named} has more than {MAX_MODEL_BYTES} bytes")
    before = files_state(str(archive))
    target = _cache() / files_digest(archive)

    def fill(directory: Path) -> None:
        archives.unpack(archive, named, MAX_MODEL_BYTES, directory)
        if files_state(str(archive)) != before:
            raise ValueError(f"{named} was changed while it was unpacked: try again when it is complete")

    complete.fill_once(target, fill)
    subdirectories = [path for path in target.iterdir() if path.is_dir()]
    is_model = (target / SAVED_MODEL).exists() or portable.find(target) is not None
    return subdirectories[0] if len(subdirectories) == 1 and not is_model else target


def _tensorflow_hub_cache() -> Path:
    """Returns the directory in which tensorflow-hub keeps models. Raises NotPrivate if others may write to it."""
    path = os.environ.get("TFHUB_CACHE_DIR") or str(Path(tempfile.gettempdir()) / "tfhub_modules")
    if not locations.is_local(path):
        raise ValueError(f"TFHUB_CACHE_DIR={path!r}: expected a local directory")
    return private.make(Path(path), "TFHUB_CACHE_DIR")


def _cache() -> Path:
    """Returns the directory for models from buckets and archives, beside those of tensorflow-hub."""
    return _tensorflow_hub_cache() / "files"
