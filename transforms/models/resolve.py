"""Resolves a `--model`: a name or handle → `ModelSpec`. The model is checked at launch, before any worker starts."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from transforms.models import catalog
from transforms.models.spec import ModelSpec, digest
from transforms.one_line import one_line
from transforms.storage import locations

if TYPE_CHECKING:
    from transforms.models.portable import PortableModel


def resolve(
    handle: str,
    image_size: tuple[int, int] | None = None,
    resize_mode: str = "stretch",
    signature: str | None = None,
    tags: tuple[str, ...] | None = None,
    billing_project: str | None = None,
    output: str | None = None,
) -> ModelSpec:
    """Returns the spec of a model for the given preprocessing.

    A bundled model is not loaded. Any other model is downloaded and loaded, which shows whether it works. The result is
    cached on this machine, so that the next call does not load the model.

    Args:
      handle: a name of catalog.BUNDLED or catalog.HUB, or any handle that handles.local_path takes.
      image_size: (height, width) in pixels; None for the model's own.
      resize_mode: how images are brought to that size.
      signature, tags: the function to call in a SavedModel; None for its default.
      billing_project: the project that pays for requests to a requester-pays bucket, here and on the workers.
      output: the output of a portable model with the vectors; None for its only one.

    Raises:
      ValueError: if the model cannot be obtained, is no model of images, or does not take that size.
    """
    if handle in catalog.BUNDLED:
        _check_no_signature(handle, signature, tags)
        _check_no_output(handle, output)
        return catalog.bundled(handle, image_size, resize_mode)
    from transforms.models import handles, notes, portable
    from transforms.models.engines import cache

    source = catalog.HUB[handle].handle if handle in catalog.HUB else handle
    path = handles.local_path(source, billing_project)
    # Models from a hub are downloaded at launch. Workers read the local copy.
    location = source if locations.is_gcs(source) else str(path.absolute())
    files = handles.files_digest(path) if _may_be_model(path) or portable.find(path) else ""
    billing_project = billing_project if locations.is_gcs(location) else None
    request = _Request(handle, location, files, notes.read_text(path), image_size, resize_mode, signature, tags, output)
    spec = cache.read_spec(request)
    if spec is None:
        spec = _inspect(request, path, billing_project)
        cache.write_spec(request, spec)
    return dataclasses.replace(spec, billing_project=billing_project)


class _Request(NamedTuple):
    """Everything that determines a spec: the key of its cache entry.

    Attributes:
      handle, image_size, resize_mode, signature, tags, output: arguments of `resolve`.
      location: see ModelSpec.
      files: hex digest of the model's files.
      note: text of the model's note, see `notes`.
    """

    handle: str
    location: str
    files: str
    note: str
    image_size: tuple[int, int] | None
    resize_mode: str
    signature: str | None
    tags: tuple[str, ...] | None
    output: str | None


def _may_be_model(path: Path) -> bool:
    return path.is_file() or (path / "saved_model.pb").is_file()


def _inspect(request: _Request, path: Path, billing_project: str | None) -> ModelSpec:
    """Returns the spec of the model at `path`, which it reads and loads."""
    from transforms.models import notes, portable

    draft = ModelSpec(
        name=request.handle,
        format="keras",
        location=request.location,
        signature="",
        tags=(),
        dimension=0,
        image_size=(0, 0),
        digest="",
        billing_project=billing_project,
    )
    if portable_model := portable.find(path):
        return _inspect_portable(draft, request, path, portable_model)
    _check_no_output(request.handle, request.output)
    if path.suffix == ".keras":
        _check_no_signature(request.handle, request.signature, request.tags)
        return _complete(draft, request, path, request.image_size, is_classifier=False)
    from transforms.models import hub  # TensorFlow

    model = hub.read(path)
    signature, tags = hub.choose(model, request.signature, request.tags)
    draft = dataclasses.replace(draft, format=model.format, signature=signature, tags=tags)
    fixed_size = hub.expected_size(model.variants[tags][signature]) if signature else None
    if fixed_size and request.image_size not in (None, fixed_size):
        raise ValueError(
            f"model={request.handle!r} takes images of {_size_text(fixed_size)} pixels only, "
            f"not image_size={_size_text(request.image_size)}"
        )
    hub_model = catalog.HUB.get(request.handle)
    sources = (hub_model.handle if hub_model else request.handle, notes.handle(path))
    is_classifier = "image_classification" in model.variants[tags] or any(
        "/classification/" in source for source in sources
    )
    return _complete(draft, request, path, request.image_size or fixed_size or model.image_size, is_classifier)


def _inspect_portable(draft: ModelSpec, request: _Request, path: Path, model: "PortableModel") -> ModelSpec:
    from transforms.models.engines import portable_model
    from transforms.models.image_interface import InterfaceError

    _check_no_signature(request.handle, request.signature, request.tags)
    try:
        description = portable_model.describe(model)
        interface = description.interface(request.output)
        output = interface.output if len(description.signature.outputs) > 1 else ""
        draft = dataclasses.replace(draft, format=model.format, output=output)
        if request.image_size and not interface.takes(request.image_size):
            sizes = "x".join(str(size or "?") for size in (interface.height, interface.width))
            raise InterfaceError(
                f"it takes images of {sizes} pixels only, not image_size={_size_text(request.image_size)}"
            )
    except InterfaceError as error:
        raise ValueError(f"model={request.handle!r}: {error}") from error
    return _complete(draft, request, path, request.image_size or interface.image_size, is_classifier=False)


def _check_no_output(handle: str, output: str | None) -> None:
    if output is not None:
        raise ValueError(f"model={handle!r}: model_output={output!r} is for ONNX, OpenVINO IR and TFLite models only")


def _check_no_signature(handle: str, signature: str | None, tags: tuple[str, ...] | None) -> None:
    if signature is not None or tags is not None:
        raise ValueError(f"model={handle!r} has neither signatures nor tags: only SavedModels have them")


def _complete(
    draft: ModelSpec, request: _Request, path: Path, image_size: tuple[int, int] | None, is_classifier: bool
) -> ModelSpec:
    """Returns a draft with its image size, dimension, digest and classes, which a first call of the model shows."""
    from transforms.models import class_names, notes

    hub_model = catalog.HUB.get(request.handle)
    size = image_size or notes.image_size(path) or (hub_model.image_size if hub_model else None)
    if size is None:
        raise ValueError(f"model={draft.name!r} does not tell which size its images have: give --image_size HxW")
    draft = dataclasses.replace(draft, image_size=size)
    dimension = _dimension(draft)
    return dataclasses.replace(
        draft,
        dimension=dimension,
        digest=digest(request.files, draft.signature, draft.tags, size, request.resize_mode, draft.output),
        classes=class_names.names(path, is_classifier, dimension),
    )


def _dimension(draft: ModelSpec) -> int:
    """Returns the length of a model's vectors, from a call with two black images."""
    import numpy as np

    from transforms.models import portable
    from transforms.models.image_interface import InterfaceError

    black = np.zeros((2, *draft.image_size, 3), np.uint8)
    try:
        if draft.format in portable.FORMATS.values():
            from transforms.models.engines import loading

            vectors = loading.load(draft)(black)
        else:
            from transforms.models.engines import opening

            vectors = opening.open_model(draft)(black)
    except InterfaceError as error:
        raise ValueError(f"model={draft.name!r}: {error}") from error
    except ValueError:
        raise
    # The model's own operations fail by any class of TensorFlow's. No spec is returned or cached, and a caller that
    # tries another size opens the model again.
    except Exception as error:
        size = _size_text(draft.image_size)
        raise ValueError(f"model={draft.name!r} fails on images of {size} pixels: {one_line(error)}") from error
    if vectors.ndim != 2 or vectors.shape[0] != 2 or vectors.dtype != np.float32:
        raise ValueError(
            f"model={draft.name!r} gives {vectors.dtype}{list(vectors.shape)} for 2 images: "
            "expected one vector per image, float32[2, dimension]"
        )
    return int(vectors.shape[1])


def _size_text(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else ""
