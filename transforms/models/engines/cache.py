"""What it took TensorFlow to find out about a model, kept on this machine: the next run with that model needs none.

Kept are the spec, by what was asked for, and the network as OpenVINO has it; each under the digest of the model's
files, of the libraries' versions and of this package's own code. So what is kept is never out of date, and may be
removed at any time.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transforms.models import handles
from transforms.models.engines import openvino_engine
from transforms.models.spec import ModelSpec

if TYPE_CHECKING:
    import openvino

_LOG = logging.getLogger(__name__)

_SPEC, _NETWORK = "spec.json", "network.xml"


def directory() -> Path:
    """Returns where it is kept; it need not exist."""
    if own := os.environ.get("BEAM_IMAGE_EMBEDDINGS_CACHE"):
        return Path(own)
    home = Path("~").expanduser() if os.environ.get("HOME") else Path(tempfile.gettempdir())
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache", "beam-image-embeddings", "models")


def spec(asked: Sequence[object]) -> ModelSpec | None:
    """Returns what was found out about a model, None if it was not.

    Args:
      asked: all that it depends on, as JSON has it.
    """
    file = _entry("spec", *asked) / _SPEC
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        lists = {name: tuple(found[name]) for name in ("tags", "image_size", "classes")}
        return ModelSpec(**found | lists)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        _remove(file, error)
        return None


def keep_spec(asked: Sequence[object], found: ModelSpec) -> None:
    """Keeps what was found out about a model."""

    def write(directory: Path) -> None:
        (directory / _SPEC).write_text(json.dumps(dataclasses.asdict(found), indent=2) + "\n", encoding="utf-8")

    _keep(_entry("spec", *asked), write)


def network_entry(spec: ModelSpec) -> Path:
    """Returns where the network of a model is kept; reads the model's files for their digest."""
    files = handles.files_digest(handles.local_path(spec.location))
    return _entry("network", files, spec.format, spec.signature, spec.tags, spec.image_size, openvino_engine.identity())


def network(entry: Path) -> "openvino.Model | None":
    """Returns the network in an entry, None if it is not kept."""
    file = entry / _NETWORK
    if not file.exists():
        return None
    try:
        return openvino_engine.openvino.Core().read_model(file)
    except RuntimeError as error:
        _remove(file, error)
        return None


def keep_network(entry: Path, network: "openvino.Model") -> None:
    """Keeps a network in an entry."""

    def write(directory: Path) -> None:
        openvino_engine.openvino.save_model(network, directory / _NETWORK, compress_to_fp16=False)

    _keep(entry, write)


def _keep(entry: Path, write: handles.Fill) -> None:
    try:
        handles.fill(entry, write)
    except (OSError, RuntimeError) as error:  # a disk that is full or read-only: it works without
        _LOG.warning("%s: cannot be kept (%s), so the next run finds out the same again", entry, error)


def _remove(file: Path, error: Exception) -> None:
    _LOG.warning("%s: not readable (%s), and removed", file, error)
    shutil.rmtree(file.parent, ignore_errors=True)


def _entry(kind: str, *by: object) -> Path:
    key = hashlib.sha256(json.dumps([*by, _made_by()]).encode()).hexdigest()
    return directory() / f"{kind}-{key}"


@functools.cache
def _made_by() -> list[str]:
    """Returns versions of what finds out: TensorFlow's, and of the code in `transforms.models`."""
    code = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        code.update(file.read_bytes())
    versions = [code.hexdigest()]
    for library in ("tensorflow", "tf_keras", "keras"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(importlib.metadata.version(library))
    return versions
