"""Resolves a `--model`: handle → files → facts → `ModelSpec`. The launch tries the model before any worker starts."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from transforms.models import catalog, model_facts, preprocessing_files
from transforms.models.model_facts import DEFAULT_FUNCTION, Function, ModelFacts
from transforms.models.preprocessing import AS_BYTES, NO_CHOICES, RANGES, TF_HUB, Choices, Preprocessing
from transforms.models.spec import ModelSpec, digest
from transforms.storage import stores
from transforms.storage.context import DEFAULT_STORAGE, Storage


def resolve(
    handle: str,
    choices: Choices = NO_CHOICES,
    function: Function = DEFAULT_FUNCTION,
    *,
    normalize: bool = False,
    storage: Storage = DEFAULT_STORAGE,
) -> ModelSpec:
    """Returns the spec of a model.

    The first of these that states a preprocessing decides: the arguments, a file beside the model, the table of names
    in `keras_file`, TF-Hub's convention.

    A bundled model is not loaded. Any other model is downloaded and loaded, which shows whether it works. The result is
    cached on this machine, so that the next call does not load the model.

    Args:
      handle: a name of catalog.BUNDLED or catalog.HUB, or any handle that handles.local_path takes.
      choices: of the image size and the preprocessing.
      function: to call in the model's files.
      normalize: whether to scale vectors to length 1.
      storage: how buckets are reached, here and on the workers.

    Raises:
      ValueError: if the model cannot be obtained, is no model of images, or does not take that size or those values.
    """
    choices.preprocessing()  # checks the values
    if handle in catalog.BUNDLED:
        function.check_no_signature(handle)
        function.check_no_output(handle)
        return catalog.bundled(handle, choices, normalize)
    from transforms.models import handles
    from transforms.models.engines import cache

    files = _files(handle, storage)
    key = [handle, files.location, files.digest, files.beside, choices.chosen(), vars(function), normalize]
    if cached := cache.read_spec(key):
        return dataclasses.replace(cached, storage=files.storage)
    before = handles.files_state(str(files.path))
    spec = _tried(files, model_facts.read(handle, files.path, function), choices, normalize)
    if handles.files_state(str(files.path)) != before or handles.files_digest(files.path) != files.digest:
        raise ValueError(f"model={handle!r} was changed while it was tried: try again when its files are complete")
    cache.write_spec(key, spec)
    return spec


class _Files(NamedTuple):
    """The files of a model on this machine.

    Attributes:
      handle: the argument of `resolve`.
      path: of its directory or its main file.
      location, storage: see ModelSpec.
      digest: hex digest of the files; "" where they are no model.
      beside: texts of the model's note and of its preprocessing files.
    """

    handle: str
    path: Path
    location: str
    storage: Storage
    digest: str
    beside: str


def _files(handle: str, storage: Storage) -> _Files:
    """Returns the files of a handle. Remote ones are downloaded: workers read the local copy, or the same bucket."""
    from transforms.models import handles, notes, portable

    source = catalog.HUB[handle].handle if handle in catalog.HUB else handle
    path = handles.local_path(source, storage)
    is_remote = stores.is_bucket(source)
    is_model = path.is_file() or (path / handles.SAVED_MODEL).is_file() or portable.find(path) is not None
    return _Files(
        handle=handle,
        path=path,
        location=source if is_remote else str(path.absolute()),
        storage=storage if is_remote else DEFAULT_STORAGE,
        digest=handles.files_digest(path) if is_model else "",
        beside=notes.read_text(path) + preprocessing_files.text(path),
    )


def _tried(files: _Files, facts: ModelFacts, choices: Choices, normalize: bool) -> ModelSpec:
    """Returns the spec of a model by its facts, the user's choices, and the vectors of its first calls."""
    from transforms.models import class_names
    from transforms.models.engines import trial

    beside = preprocessing_files.choices(files.path)
    preprocessing = choices.over(beside).over(facts.known).preprocessing()
    of_digest = preprocessing
    if facts.takes_bytes:
        preprocessing = _as_bytes(files.handle, preprocessing)
        # The digest of a model in TF-Hub's range, because an earlier version had no other range.
        of_digest = dataclasses.replace(preprocessing, mean=TF_HUB.mean, std=TF_HUB.std)
    size = _image_size(files.handle, facts, asked=choices.image_size, beside=beside.image_size)
    untried = ModelSpec(
        name=files.handle,
        format=facts.format,
        location=files.location,
        signature=facts.signature,
        tags=facts.tags,
        dimension=0,
        image_size=size,
        digest=digest(files.digest, facts.signature, facts.tags, size, of_digest, facts.output, normalize),
        storage=files.storage,
        output=facts.output,
        preprocessing=preprocessing,
        normalize=normalize,
        files=files.digest,
    )
    dimension = trial.dimension(untried)
    classes = class_names.names(files.path, facts.is_classifier, dimension)
    if classes and normalize:
        raise ValueError(
            f"model={files.handle!r} gives classes, whose scores normalize would change: expected it without"
        )
    gives_probabilities = bool(classes) and trial.gives_probabilities(untried)
    return dataclasses.replace(untried, dimension=dimension, classes=classes, gives_probabilities=gives_probabilities)


def _as_bytes(name: str, preprocessing: Preprocessing) -> Preprocessing:
    """Returns the preprocessing of a model that takes pixels as bytes. Raises ValueError for other values."""
    if preprocessing.pixel_range not in ("0..1", AS_BYTES):
        raise ValueError(
            f"model={name!r} takes pixels as bytes, and not {preprocessing.pixels_text()}: "
            f"give --pixel_range {AS_BYTES}"
        )
    mean, std = RANGES[AS_BYTES]
    return dataclasses.replace(preprocessing, mean=mean, std=std)


def _image_size(
    name: str, facts: ModelFacts, asked: tuple[int, int] | None, beside: tuple[int, int] | None
) -> tuple[int, int]:
    """Returns the requested (height, width), else that of the model, else that of a file beside it.

    Raises:
      ValueError: if none of them has a size, or if the size does not fit.
    """
    fixed = "x".join(str(size or "?") for size in facts.fixed)
    if not facts.fits(asked):
        raise ValueError(f"model={name!r} takes images of {fixed} pixels only, not image_size={_text(asked)}")
    if not asked and not facts.fits(beside):
        raise ValueError(
            f"model={name!r} takes images of {fixed} pixels only, and a file beside it says {_text(beside)}: "
            "give --image_size HxW to ignore that"
        )
    size = asked or facts.fixed_size or facts.own_size or beside or facts.usual_size
    if size is None:
        raise ValueError(f"model={name!r} does not tell which size its images have: give --image_size HxW")
    return size


def _text(size: tuple[int, int] | None) -> str:
    return "x".join(map(str, size or ()))
