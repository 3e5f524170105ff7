"""The command that copies a model to a directory or bucket, so that the workers of a job need no hub."""

import argparse
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.commands import frame
from pipeline.flags import storage_flags
from pipeline.flags.argument_parser import Parser
from transforms.elements.one_line import name
from transforms.models import catalog
from transforms.storage import complete, locations, object_directory, stores
from transforms.storage.context import Storage

_EXAMPLES = """\
  # copy a TF-Hub module to a bucket; a run takes it as --model gs://bucket/models/inception_resnet_v2
  python -m pipeline stage-model inception_resnet_v2 gs://bucket/models/inception_resnet_v2

  # copy a module on a machine with a network, for a machine without one
  python -m pipeline stage-model https://tfhub.dev/google/imagenet/inception_v2/feature_vector/1 ./inception_v2

  # copy an ONNX model with its external data
  python -m pipeline stage-model model.onnx gs://bucket/models/mine
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return frame.run(_parser(), argv, _stage)


def _parser() -> Parser:
    parser = frame.parser("stage-model", "Copies a model to a directory or bucket, complete or not at all.", _EXAMPLES)
    parser.add_argument("handle", help="a model, as --model of a run takes it, except those in the package")
    parser.add_argument("destination", help="the directory to create, local or in a bucket")
    parser.add_argument("--overwrite", action="store_true", help="replace another model there (default: refuse)")
    storage_flags.add(parser)
    return parser


def _stage(flags: argparse.Namespace) -> str:
    if flags.handle in catalog.BUNDLED:
        raise ValueError(f"model={flags.handle!r} is in the package, so every worker has it: nothing to stage")
    destination = flags.destination.rstrip("/")
    if not stores.is_bucket(destination):
        if not locations.is_local(destination):
            raise ValueError(
                f"destination={destination!r}: expected a directory, local or in a bucket (gs://, s3://, az://)"
            )
        destination = os.path.abspath(destination)  # noqa: PTH100 - replaces a link, not its target
    from transforms.models import handles, notes, preprocessing_files

    entry = catalog.HUB.get(flags.handle)
    handle = entry.handle if entry else flags.handle
    path = handles.local_path(handle, storage_flags.storage(flags))
    if path.suffix == ".keras":
        raise ValueError(f"model={flags.handle!r} is one file: copy it yourself, and give its path as --model")
    size = _recorded_size(path) or (entry.image_size if entry else None)
    digest = handles.files_digest(path)
    beside = preprocessing_files.text(path)
    preprocessing = {"preprocessing": hashlib.sha256(beside.encode()).hexdigest()} if beside else {}
    note = notes.text(image_size=size, handle=handle, files_digest=digest, **preprocessing).encode()
    contents = _contents(path)
    if _note(destination, contents, storage_flags.storage(flags)) == note:
        outcome = "it is there already"
    else:
        copy = _to_bucket if stores.is_bucket(destination) else _to_directory
        copy({**contents, notes.FILE.as_posix(): note}, destination, flags)
        outcome = f"{len(contents)} files copied"
    return f"{name(handle)}\n  → {name(flags.destination)} ({outcome})\n  digest of its files: {digest}"


def _recorded_size(path: Path) -> tuple[int, int] | None:
    """Returns the (height, width) in pixels that is recorded beside a model's function; None if there is none."""
    from transforms.models import notes, portable

    if portable.find(path):  # a fixed size is part of its network
        return notes.image_size(path)
    from transforms.models import hub

    return hub.read(path).image_size or notes.image_size(path)


def _contents(path: Path) -> dict[str, Path | bytes]:
    """Returns name → file for the files of a model, except the notes that handles keep there.

    Raises:
      ValueError: if a link leads out of the directory. A model from a stranger could publish a private file by it.
    """
    from transforms.models import notes, portable

    if model := portable.find(path):
        files = dict(model.files)
    else:
        inside = {file.relative_to(path): file for file in path.rglob("*") if file.is_file()}
        files = {name.as_posix(): file for name, file in inside.items() if not name.is_relative_to(notes.FILE.parent)}
    for file in files.values():
        if path.is_dir() and not file.resolve().is_relative_to(path.resolve()):
            raise ValueError(f"{str(file)!r} is a link that leads out of the model: replace it by the file itself")
    if own := files.get(notes.FILE.as_posix()):
        raise ValueError(f"{str(own)!r} has the name of the note of this command: expected another name")
    return {**files}  # of the wider type


def _note(destination: str, contents: Mapping[str, Path | bytes], storage: Storage) -> bytes | None:
    """Returns the note in the directory of a complete model, or None if there is no complete model of that format."""
    from transforms.models import handles, notes, portable

    marker = next(name for name in (handles.SAVED_MODEL, *portable.MAIN_FILES) if name in contents)
    if locations.is_local(destination):
        directory = Path(destination)
        is_complete = (directory / marker).is_file() and (directory / notes.FILE).is_file()
        return (directory / notes.FILE).read_bytes() if is_complete else None
    store = stores.of(destination)
    try:
        store.described(storage, f"{destination}/{marker}")
        note = store.described(storage, f"{destination}/{notes.FILE.as_posix()}")
        return store.read(storage, note.path, note.version)
    except FileNotFoundError:
        return None


def _to_directory(contents: Mapping[str, Path | bytes], destination: str, flags: argparse.Namespace) -> None:
    with complete.directory(Path(destination), **_policy(contents, flags)) as directory:
        for name, content in contents.items():
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, file)
            else:
                file.write_bytes(content)


def _to_bucket(contents: Mapping[str, Path | bytes], destination: str, flags: argparse.Namespace) -> None:
    object_directory.upload(storage_flags.storage(flags), contents, destination, **_policy(contents, flags))


def _policy(contents: Mapping[str, Path | bytes], flags: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `complete.check_entries`: models and unfinished copies may be replaced."""
    from transforms.models import handles, portable

    return {
        "named": f"destination={flags.destination!r}",
        "overwrite": flags.overwrite,
        "entries": handles.SAVED_MODEL_ENTRIES | portable.ENTRIES | {name.partition("/")[0] for name in contents},
        "markers": portable.MAIN_FILES | {handles.SAVED_MODEL},  # a model has one of them, which is copied last
    }
