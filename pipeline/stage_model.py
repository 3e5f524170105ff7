"""The command that copies a model once to where workers read it: a job on many workers never asks a hub."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline import command
from transforms.models import catalog

_EXAMPLES = """\
  # a module of TF-Hub, to a bucket; then --model gs://bucket/models/inception_resnet_v2
  python -m pipeline.stage_model inception_resnet_v2 gs://bucket/models/inception_resnet_v2

  # on a machine with a network, for one without
  python -m pipeline.stage_model https://tfhub.dev/google/imagenet/inception_v2/feature_vector/1 ./inception_v2
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return command.run(_parser(), argv, _stage)


def _parser() -> command.Parser:
    parser = command.parser(
        "stage_model", "Copies a model to a directory or bucket, complete or not at all.", _EXAMPLES
    )
    parser.add_argument("handle", help="whatever --model of run_pipeline.py takes, but for what is in the package")
    parser.add_argument("destination", help="the directory to make, local or gs://")
    parser.add_argument("--overwrite", action="store_true", help="replace another model there (default: refuse)")
    return parser


def _stage(given: argparse.Namespace) -> str:
    if given.handle in catalog.BUNDLED:
        raise ValueError(f"model={given.handle!r} is in the package, so every worker has it: nothing to stage")
    from transforms.models import handles, hub, notes

    known = catalog.HUB.get(given.handle)
    handle = known.handle if known else given.handle
    path = handles.local_path(handle)
    if path.is_file():
        raise ValueError(f"model={given.handle!r} is one file: copy it to where --model shall find it")
    size = hub.read(path).image_size or notes.image_size(path) or (known.image_size if known else None)
    digest = handles.files_digest(path)
    note = notes.text(image_size=size, handle=handle, files_digest=digest)
    copied = _copy(path, given.destination.rstrip("/"), note, given.overwrite)
    done = f"{copied} files copied" if copied else "it is there already"
    return f"{handle}\n  → {given.destination} ({done})\n  digest of its files: {digest}"


def _copy(path: Path, destination: str, note: str, overwrite: bool) -> int:
    """Copies a SavedModel, `saved_model.pb` last: without it a directory is no model. Returns the number of files."""
    from transforms.models import notes
    from transforms.storage import files

    note_path = f"{destination}/{notes.FILE.as_posix()}"
    marker = f"{destination}/saved_model.pb"
    if files.match(marker):
        if files.match(note_path) and files.read(note_path) == note.encode():
            return 0
        if not overwrite:
            raise ValueError(f"another model is in {destination!r}: name another place, or --overwrite to replace it")
        files.remove_file(marker)
        files.remove(destination)
    own_notes = path / notes.FILE.parent
    sources = [file for file in path.rglob("*") if file.is_file() and not file.is_relative_to(own_notes)]
    for file in sorted(sources, key=lambda file: file.name == "saved_model.pb"):
        if file.name == "saved_model.pb":
            files.write(note_path, note.encode())
        files.copy(str(file), f"{destination}/{file.relative_to(path).as_posix()}")
    return len(sources)


if __name__ == "__main__":
    sys.exit(main())
