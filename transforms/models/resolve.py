"""What a `--model` means: a name or handle → `ModelSpec`, checked as far as one can before any worker starts."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from transforms.models import catalog
from transforms.models.spec import ModelSpec, digest


def resolve(
    handle: str,
    image_size: tuple[int, int] | None,
    resize_mode: str,
    signature: str | None = None,
    tags: tuple[str, ...] | None = None,
) -> ModelSpec:
    """Returns the spec of a model for one way of preparing its images.

    A bundled model costs nothing. Any other is fetched and loaded, which shows whether it works; what was found out is
    kept on this machine, and the next time it need not be loaded.

    Args:
      handle: a name of catalog.BUNDLED or catalog.HUB, or whatever handles.local_path takes.
      image_size: (height, width) in pixels; None for the model's own.
      resize_mode: how images get that size.
      signature, tags: what to call in a SavedModel; None for its default.

    Raises:
      ValueError: if the model is not to be had, is not one of images, or does not take that size.
    """
    if handle in catalog.BUNDLED:
        _check_is_whole(handle, signature, tags)
        return catalog.bundled(handle, image_size, resize_mode)
    from transforms.models import handles, notes
    from transforms.models.engines import cache

    location = catalog.HUB[handle].handle if handle in catalog.HUB else handle
    path = handles.local_path(location)
    # What comes from a hub is on this machine by now: workers read that, and never ask the hub.
    place = location if location.startswith("gs://") else str(path.absolute())
    files = handles.files_digest(path) if _may_be_model(path) else ""
    asked = _Asked(handle, place, files, notes.content(path), image_size, resize_mode, signature, tags)
    if found := cache.spec(asked):
        return found
    found = _found_out(asked, path)
    cache.keep_spec(asked, found)
    return found


class _Asked(NamedTuple):
    """All that a spec depends on: what `resolve` was given, where the files are, their digest, and the note by them."""

    handle: str
    place: str
    files: str
    note: str
    image_size: tuple[int, int] | None
    resize_mode: str
    signature: str | None
    tags: tuple[str, ...] | None


def _may_be_model(path: Path) -> bool:
    return path.is_file() or (path / "saved_model.pb").is_file()


def _found_out(asked: _Asked, path: Path) -> ModelSpec:
    from transforms.models import hub, notes  # TensorFlow

    draft = ModelSpec(asked.handle, "keras", asked.place, "", (), 0, (0, 0), "")
    if path.suffix == ".keras":
        _check_is_whole(asked.handle, asked.signature, asked.tags)
        return _tried(draft, asked, path, asked.image_size, is_classifier=False)
    model = hub.read(path)
    signature, tags = hub.choose(model, asked.signature, asked.tags)
    draft = dataclasses.replace(draft, format=model.format, signature=signature, tags=tags)
    fixed = hub.expected_size(model.variants[tags][signature]) if signature else None
    if fixed and asked.image_size not in (None, fixed):
        raise ValueError(
            f"model={asked.handle!r} takes images of {_by(fixed)} pixels only, not image_size={_by(asked.image_size)}"
        )
    known = catalog.HUB.get(asked.handle)
    told = (known.handle if known else asked.handle, notes.handle(path))
    is_classifier = "image_classification" in model.variants[tags] or any("/classification/" in one for one in told)
    return _tried(draft, asked, path, asked.image_size or fixed or model.image_size, is_classifier)


def _check_is_whole(handle: str, signature: str | None, tags: tuple[str, ...] | None) -> None:
    if signature is not None or tags is not None:
        raise ValueError(f"model={handle!r} has neither signatures nor tags: they are of SavedModels")


def _tried(
    draft: ModelSpec, asked: _Asked, path: Path, image_size: tuple[int, int] | None, is_classifier: bool
) -> ModelSpec:
    """Returns the spec completed by what a first call of the model shows."""
    import numpy as np

    from transforms.models import class_names, notes
    from transforms.models.engines import opening

    known = catalog.HUB.get(asked.handle)
    size = image_size or notes.image_size(path) or (known.image_size if known else None)
    if size is None:
        raise ValueError(f"model={draft.name!r} does not tell which size its images have: give --image_size HxW")
    draft = dataclasses.replace(draft, image_size=size)
    try:
        vectors = opening.opened(draft)(np.zeros((2, *size, 3), np.uint8))
    except ValueError:
        raise
    except Exception as error:
        said = str(error).strip().splitlines()
        reason = said[0] if said else repr(error)
        raise ValueError(f"model={draft.name!r} fails on images of {_by(size)} pixels: {reason}") from error
    if vectors.ndim != 2 or vectors.shape[0] != 2 or vectors.dtype != np.float32:
        raise ValueError(
            f"model={draft.name!r} gives {vectors.dtype}{list(vectors.shape)} for 2 images: "
            "needed is one vector an image, float32[2, dimension]"
        )
    dimension = vectors.shape[1]
    return dataclasses.replace(
        draft,
        dimension=dimension,
        digest=digest(asked.files, draft.signature, draft.tags, size, asked.resize_mode),
        classes=class_names.names(path, is_classifier, dimension),
    )


def _by(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else ""
