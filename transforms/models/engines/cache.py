"""A cache on this machine of specs and converted networks, so that later runs with a model do not load TensorFlow.

An entry holds the spec of a model or its network in OpenVINO's format, or only says that two engines agree.
Its key includes the digest of the model's files, the versions of the libraries and the digest of this package's code.
An entry is therefore never out of date. Every entry may be deleted at any time.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from transforms.models import handles
from transforms.models.engines import openvino_engine
from transforms.models.preprocessing import Preprocessing
from transforms.models.spec import ModelSpec
from transforms.storage import complete, private

if TYPE_CHECKING:
    import openvino

_Value = TypeVar("_Value")
_LOG = logging.getLogger(__name__)

_SPEC, _NETWORK, _FINDING = "spec.json", "network.xml", "finding.json"


def directory() -> Path:
    """Returns the directory of the cache, which may not exist yet."""
    if path := os.environ.get("BEAM_IMAGE_EMBEDDINGS_CACHE"):
        return Path(path)
    home = Path("~").expanduser() if os.environ.get("HOME") else Path(tempfile.gettempdir())
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache", "beam-image-embeddings", "models")


def read_spec(request: Sequence[object]) -> ModelSpec | None:
    """Returns the spec in the cache, None if there is none. `request` has all that determines it, in JSON's types."""

    def parse(facts: dict[str, Any]) -> ModelSpec:
        lists = {name: tuple(facts[name]) for name in ("tags", "image_size", "classes")}
        preprocessing = Preprocessing.from_facts(facts["preprocessing"])
        return ModelSpec(**facts | lists | {"preprocessing": preprocessing})

    return _read_json(_entry("spec", *request) / _SPEC, parse)


def write_spec(request: Sequence[object], spec: ModelSpec) -> None:
    """Writes the spec for a request into the cache; see `read_spec`."""
    _write_json(_entry("spec", *request), _SPEC, spec.facts())


def network_entry(spec: ModelSpec) -> Path:
    """Returns the path of the cache entry for the network of a model."""
    files, values = _files(spec), spec.preprocessing.values()
    return _entry(
        "network", files, spec.format, spec.signature, spec.tags, spec.image_size, values, openvino_engine.identity()
    )


def read_network(entry: Path) -> "openvino.Model | None":
    """Returns the network in an entry, None if there is none."""
    file = entry / _NETWORK
    if not (_may_use(entry.parent) and file.exists()):
        return None
    try:
        return openvino_engine.core().read_model(file)
    except RuntimeError as error:
        _remove(file, error)
        return None


def write_network(entry: Path, network: "openvino.Model") -> None:
    save = openvino_engine.openvino.save_model
    _write_entry(entry, lambda directory: save(network, directory / _NETWORK, compress_to_fp16=False))


def agreement_entry(spec: ModelSpec) -> Path:
    """Returns the path of the entry that is there if OpenVINO and ONNX Runtime return the same vectors for a model."""
    values = spec.preprocessing.values()
    return _entry("agreement", _files(spec), spec.output, spec.image_size, values, openvino_engine.identity())


def finding_entry(spec: ModelSpec) -> Path:
    """Returns the path of the entry with what the sample images show of a model."""
    return _entry("finding", spec.digest, spec.format, spec.location)


def read_finding(entry: Path) -> tuple[float, float | None] | None:
    """Returns the numbers in an entry, None if there is none."""

    def parse(numbers: Sequence[Any]) -> tuple[float, float | None]:
        spread, rescaling = numbers
        return float(spread), None if rescaling is None else float(rescaling)

    return _read_json(entry / _FINDING, parse)


def write_finding(entry: Path, numbers: Sequence[float | None]) -> None:
    _write_json(entry, _FINDING, list(numbers))


def has(entry: Path) -> bool:
    return _may_use(entry.parent) and entry.exists()


def mark(entry: Path) -> None:
    """Writes an entry without content."""
    _write_entry(entry, lambda directory: None)


@functools.cache
def _may_use(directory: Path) -> bool:
    """Returns whether the cache is this user's alone. Otherwise, somebody else could put a network into it.

    A run works without the cache, so a cache that cannot be used is no error.
    """
    try:
        private.make(directory, "BEAM_IMAGE_EMBEDDINGS_CACHE")
    except (private.NotPrivate, OSError) as error:
        _LOG.warning("the cache of models is not used: %s", error)
        return False
    return True


def _read_json(file: Path, parse: Callable[[Any], _Value]) -> _Value | None:
    """Returns the parsed content of a file, None if there is none. Removes an entry that cannot be read."""
    if not _may_use(file.parents[1]):
        return None
    try:
        return parse(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        _remove(file, error)
        return None


def _write_json(entry: Path, name: str, facts: object) -> None:
    def write(directory: Path) -> None:
        (directory / name).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    _write_entry(entry, write)


def _write_entry(entry: Path, write: complete.Fill) -> None:
    if not _may_use(entry.parent):
        return
    try:
        complete.fill_once(entry, write)
    except (OSError, RuntimeError) as error:  # a full or read-only disk: the run works without the cache
        _LOG.warning("%s: cannot be written (%s); the next run inspects the model again", entry, error)


def _remove(file: Path, error: Exception) -> None:
    _LOG.warning("%s: not readable (%s); the cache entry is removed", file, error)
    shutil.rmtree(file.parent, ignore_errors=True)


def _files(spec: ModelSpec) -> str:
    """Returns the digest of a model's files. It reads the files only if the spec has no digest."""
    return spec.files or handles.files_digest(handles.local_path(spec.location, spec.storage))


def _entry(kind: str, *parts: object) -> Path:
    key = hashlib.sha256(json.dumps([*parts, _versions()]).encode()).hexdigest()
    return directory() / f"{kind}-{key}"


@functools.cache
def _versions() -> list[str]:
    """Returns the digest of the code in `transforms.models`, and the versions of the libraries that read models."""
    code = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        code.update(file.read_bytes())
    versions = [code.hexdigest()]
    for library in ("tensorflow", "tf_keras", "keras", "openvino", "onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(importlib.metadata.version(library))
    return versions
