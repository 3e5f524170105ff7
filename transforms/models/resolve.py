"""Resolves a `--model`: a name or handle → `ModelSpec`. The model is checked at launch, before any worker starts."""

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from transforms.elements.one_line import one_line
from transforms.models import catalog, preprocessing_files
from transforms.models.preprocessing import AS_BYTES, NO_CHOICES, RANGES, TF_HUB, Choices, Preprocessing
from transforms.models.spec import ModelSpec, digest
from transforms.storage import locations
from transforms.storage.context import DEFAULT_STORAGE, Storage

if TYPE_CHECKING:
    from transforms.models.portable import PortableModel

_LOG = logging.getLogger(__name__)

_NOISE_IMAGES = 16


def resolve(
    handle: str,
    image_size: tuple[int, int] | None = None,
    resize_mode: str | None = None,
    signature: str | None = None,
    tags: tuple[str, ...] | None = None,
    storage: Storage = DEFAULT_STORAGE,
    output: str | None = None,
    *,
    choices: Choices = NO_CHOICES,
    normalize: bool = False,
) -> ModelSpec:
    """Returns the spec of a model.

    Its preprocessing is that of the first of these that tells it: the arguments, a file beside the model, the table of
    names in `keras_file`, TF-Hub's convention.

    A bundled model is not loaded. Any other model is downloaded and loaded, which shows whether it works. The result is
    cached on this machine, so that the next call does not load the model.

    Args:
      handle: a name of catalog.BUNDLED or catalog.HUB, or any handle that handles.local_path takes.
      image_size: (height, width) in pixels; None for the model's own.
      resize_mode: how images are brought to that size; None for the model's own.
      signature, tags: the function to call in a SavedModel; None for its default.
      storage: how buckets are reached, here and on the workers.
      output: the output of a portable model with the vectors; None for its only one.
      choices: of the rest of the preprocessing.
      normalize: whether to scale vectors to length 1.

    Raises:
      ValueError: if the model cannot be obtained, is no model of images, or does not take that size or those values.
    """
    choices = Choices(image_size=image_size, resize_mode=resize_mode).over(choices)
    choices.preprocessing()  # checks the values
    if handle in catalog.BUNDLED:
        _check_no_signature(handle, signature, tags)
        _check_no_output(handle, output)
        return catalog.bundled(handle, choices, normalize)
    from transforms.models import handles, notes, portable
    from transforms.models.engines import cache

    source = catalog.HUB[handle].handle if handle in catalog.HUB else handle
    path = handles.local_path(source, storage)
    # Models from a hub are downloaded at launch. Workers read the local copy.
    location = source if locations.is_gcs(source) else str(path.absolute())
    files = handles.files_digest(path) if _may_be_model(path) or portable.find(path) else ""
    storage = storage if locations.is_gcs(location) else DEFAULT_STORAGE
    beside = notes.read_text(path) + preprocessing_files.text(path)
    request = _Request(handle, location, files, beside, choices, signature, tags, output, normalize)
    spec = cache.read_spec(request.key())
    if spec is None:
        before = handles.files_state(str(path))
        spec = _inspect(request, path, storage)
        if handles.files_state(str(path)) != before or handles.files_digest(path) != spec.files:
            raise ValueError(f"model={handle!r} was changed while it was tried: try again when its files are complete")
        cache.write_spec(request.key(), spec)
    return dataclasses.replace(spec, storage=storage)


class _Request(NamedTuple):
    """Everything that determines a spec.

    Attributes:
      handle, signature, tags, output, normalize: arguments of `resolve`.
      location: see ModelSpec.
      files: hex digest of the model's files.
      beside: texts of the model's note and of its preprocessing files.
      choices: of the arguments, the image size and the resize mode included.
    """

    handle: str
    location: str
    files: str
    beside: str
    choices: Choices
    signature: str | None
    tags: tuple[str, ...] | None
    output: str | None
    normalize: bool

    def key(self) -> list[object]:
        """Returns the same in JSON's types, the key of the cache entry."""
        return [value.chosen() if isinstance(value, Choices) else value for value in self]


class _Facts(NamedTuple):
    """What a model's own files tell, before it is loaded.

    Attributes:
      fixed: the (height, width) of the images that it takes, in pixels; None for any.
      own_size: the image size that a TF1 module states, although it takes others.
      served_size: that of `serving_default`, where another function is called.
      takes_bytes: whether it takes pixels as uint8.
      is_classifier: whether its outputs are known to be classes.
      known: the preprocessing of models of its name.
    """

    fixed: tuple[int | None, int | None] = (None, None)
    own_size: tuple[int, int] | None = None
    served_size: tuple[int, int] | None = None
    takes_bytes: bool = False
    is_classifier: bool = False
    known: Choices = NO_CHOICES

    def fits(self, size: tuple[int, int]) -> bool:
        """Returns whether images of a (height, width) fit the sizes that are fixed."""
        return all(own in (None, other) for own, other in zip(self.fixed, size, strict=True))

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """The (height, width), None unless both are fixed."""
        height, width = self.fixed
        return (height, width) if height and width else None


def _may_be_model(path: Path) -> bool:
    return path.is_file() or (path / "saved_model.pb").is_file()


def _inspect(request: _Request, path: Path, storage: Storage) -> ModelSpec:
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
        storage=storage,
        files=request.files,
    )
    if portable_model := portable.find(path):
        return _complete(*_portable(draft, request, portable_model), request, path)
    _check_no_output(request.handle, request.output)
    if path.suffix == ".keras":
        _check_no_signature(request.handle, request.signature, request.tags)
        from transforms.models import keras_file

        file = keras_file.read(path)
        facts = _Facts(fixed=file.image_size or (None, None), takes_bytes=file.takes_bytes, known=file.known())
        return _complete(draft, facts, request, path)
    from transforms.models import hub  # TensorFlow

    model = hub.read(path)
    signature, tags = hub.choose(model, request.signature, request.tags)
    draft = dataclasses.replace(draft, format=model.format, signature=signature, tags=tags)
    called = model.variants[tags][signature] if signature else None
    hub_model = catalog.HUB.get(request.handle)
    sources = (hub_model.handle if hub_model else request.handle, notes.handle(path))
    is_classifier = "image_classification" in model.variants[tags] or any(
        "/classification/" in source for source in sources
    )
    facts = _Facts(
        fixed=(hub.expected_size(called) if called else None) or (None, None),
        own_size=model.image_size,
        served_size=hub.usual_size(model, tags),
        takes_bytes=called is not None and hub.takes_bytes(called),
        is_classifier=is_classifier,
    )
    return _complete(draft, facts, request, path)


def _portable(draft: ModelSpec, request: _Request, model: "PortableModel") -> tuple[ModelSpec, _Facts]:
    from transforms.models.engines import portable_model
    from transforms.models.image_interface import InterfaceError

    _check_no_signature(request.handle, request.signature, request.tags)
    try:
        description = portable_model.describe(model)
        interface = description.interface(request.output)
    except InterfaceError as error:
        raise ValueError(f"model={request.handle!r}: {error}") from error
    output = interface.output if len(description.signature.outputs) > 1 else ""
    facts = _Facts(fixed=(interface.height, interface.width), takes_bytes=interface.dtype == "uint8")
    return dataclasses.replace(draft, format=model.format, output=output), facts


def _check_no_output(handle: str, output: str | None) -> None:
    if output is not None:
        raise ValueError(f"model={handle!r}: model_output={output!r} is for ONNX, OpenVINO IR and TFLite models only")


def _check_no_signature(handle: str, signature: str | None, tags: tuple[str, ...] | None) -> None:
    if signature is not None or tags is not None:
        raise ValueError(f"model={handle!r} has neither signatures nor tags: only SavedModels have them")


def _complete(draft: ModelSpec, facts: _Facts, request: _Request, path: Path) -> ModelSpec:
    """Returns a draft with all that its spec lacks. A first call of the model shows the dimension."""
    from transforms.models import class_names

    beside = preprocessing_files.choices(path)
    preprocessing = request.choices.over(beside).over(facts.known).preprocessing()
    of_digest = preprocessing
    if facts.takes_bytes:
        preprocessing = _as_bytes(draft.name, preprocessing)
        # As of a model that takes TF-Hub's range: an earlier version had no other.
        of_digest = dataclasses.replace(preprocessing, mean=TF_HUB.mean, std=TF_HUB.std)
    size = _image_size(draft.name, facts, request, beside, path)
    draft = dataclasses.replace(draft, image_size=size, preprocessing=preprocessing, normalize=request.normalize)
    dimension = _dimension(draft)
    classes = class_names.names(path, facts.is_classifier, dimension)
    if classes and request.normalize:
        raise ValueError(
            f"model={draft.name!r} gives classes, whose scores normalize would change: expected it without"
        )
    return dataclasses.replace(
        draft,
        dimension=dimension,
        digest=digest(request.files, draft.signature, draft.tags, size, of_digest, draft.output, draft.normalize),
        classes=classes,
        gives_probabilities=bool(classes) and _gives_probabilities(draft),
    )


def _as_bytes(name: str, preprocessing: Preprocessing) -> Preprocessing:
    """Returns the preprocessing of a model that takes pixels as bytes. Raises ValueError for other values."""
    if preprocessing.pixel_range not in ("0..1", AS_BYTES):
        raise ValueError(
            f"model={name!r} takes pixels as bytes, and not {preprocessing.pixels_text()}: "
            f"give --pixel_range {AS_BYTES}"
        )
    mean, std = RANGES[AS_BYTES]
    return dataclasses.replace(preprocessing, mean=mean, std=std)


def _image_size(name: str, facts: _Facts, request: _Request, beside: Choices, path: Path) -> tuple[int, int]:
    """Returns (height, width) by the first source. Raises ValueError if none does, or if it does not fit."""
    from transforms.models import notes

    asked, of_file = request.choices.image_size, beside.image_size
    fixed = "x".join(str(size or "?") for size in facts.fixed)
    if asked and not facts.fits(asked):
        raise ValueError(f"model={name!r} takes images of {fixed} pixels only, not image_size={_size_text(asked)}")
    if of_file and not asked and not facts.fits(of_file):
        raise ValueError(
            f"model={name!r} takes images of {fixed} pixels only, and a file beside it says {_size_text(of_file)}: "
            "give --image_size HxW to ignore that"
        )
    hub_model = catalog.HUB.get(request.handle)
    sizes = (
        asked,
        facts.fixed_size,
        facts.own_size,
        notes.image_size(path),
        of_file,
        facts.served_size,
        hub_model.image_size if hub_model else None,
    )
    size = next((size for size in sizes if size), None)
    if size is None:
        raise ValueError(f"model={name!r} does not tell which size its images have: give --image_size HxW")
    return size


def _dimension(draft: ModelSpec) -> int:
    """Returns the length of a model's vectors, from a call with two black images."""
    import numpy as np

    from transforms.models.engines import trial
    from transforms.models.image_interface import InterfaceError

    black = np.zeros((2, *draft.image_size, 3), np.uint8)
    try:
        vectors = trial.embed(draft, black)
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


def _gives_probabilities(draft: ModelSpec) -> bool:
    """Returns whether all outputs for images of noise lie in [0, 1].

    The images have different colours, because the logits of few classes may lie there by chance for one image.
    """
    import numpy as np

    from transforms.models.engines import trial

    rng = np.random.default_rng(0)
    darkest, brightest = np.sort(rng.integers(0, 256, (2, _NOISE_IMAGES, 1, 1, 3)), axis=0)
    noise = rng.integers(darkest, brightest + 1, (_NOISE_IMAGES, *draft.image_size, 3)).astype(np.uint8)
    try:
        outputs = trial.embed(draft, noise)
    except Exception as error:  # noqa: BLE001 - as above; a model may refuse such images
        _LOG.warning("the outputs of the model count as logits, because it fails on noise: %s", one_line(error))
        return False
    return bool(((outputs >= 0) & (outputs <= 1)).all())


def _size_text(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else ""
