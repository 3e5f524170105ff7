"""What the files of a model state before it is loaded, for every model format."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from transforms.models import catalog
from transforms.models.preprocessing import NO_CHOICES, Choices

if TYPE_CHECKING:
    from transforms.models.portable import PortableModel


@dataclasses.dataclass(frozen=True)
class Function:
    """The function to call in the files of a model, as the user names it. None: the model's default.

    Attributes:
      signature, tags: of a SavedModel.
      output: the output of a portable model that holds the vectors.
    """

    signature: str | None = None
    tags: tuple[str, ...] | None = None
    output: str | None = None

    def check_no_signature(self, handle: str) -> None:
        """Raises ValueError if a signature or tags are given for a model that has none."""
        if self.signature is not None or self.tags is not None:
            raise ValueError(f"model={handle!r} has neither signatures nor tags: only SavedModels have them")

    def check_no_output(self, handle: str) -> None:
        """Raises ValueError if an output is given for a model that has no named outputs."""
        if self.output is not None:
            raise ValueError(
                f"model={handle!r}: model_output={self.output!r} is for ONNX, OpenVINO IR and TFLite models only"
            )


DEFAULT_FUNCTION = Function()


class ModelFacts(NamedTuple):
    """What a model's own files state, before it is loaded.

    Attributes:
      format, signature, tags, output: see ModelSpec.
      fixed: the (height, width) of the images that it takes, in pixels; None for any.
      own_size: the image size that a TF1 module states, although it takes others, or the size in the model's note.
      usual_size: the image size if nothing else states one: that of `serving_default` if another function is called, or
        the catalog's.
      takes_bytes: whether it takes pixels as uint8.
      is_classifier: whether its outputs are known to be classes.
      known: the preprocessing of models of its name.
    """

    format: str
    signature: str = ""
    tags: tuple[str, ...] = ()
    output: str = ""
    fixed: tuple[int | None, int | None] = (None, None)
    own_size: tuple[int, int] | None = None
    usual_size: tuple[int, int] | None = None
    takes_bytes: bool = False
    is_classifier: bool = False
    known: Choices = NO_CHOICES

    def fits(self, size: tuple[int, int] | None) -> bool:
        """Returns whether images of a (height, width) fit the sizes that are fixed. None fits."""
        return size is None or all(own in (None, other) for own, other in zip(self.fixed, size, strict=True))

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """The (height, width), None unless both are fixed."""
        height, width = self.fixed
        return (height, width) if height and width else None


def read(handle: str, path: Path, function: Function) -> ModelFacts:
    """Returns the facts of the model in a directory or file. Raises ValueError if it lacks `function`."""
    from transforms.models import notes, portable

    if model := portable.find(path):
        function.check_no_signature(handle)
        return _of_portable(handle, model, function.output, notes.image_size(path))
    function.check_no_output(handle)
    if path.suffix == ".keras":
        function.check_no_signature(handle)
        return _of_keras(path)
    return _of_saved_model(handle, path, function)


def _of_portable(
    handle: str, model: "PortableModel", output: str | None, noted_size: tuple[int, int] | None
) -> ModelFacts:
    from transforms.models.engines import portable_model
    from transforms.models.image_interface import InterfaceError

    try:
        description = portable_model.describe(model)
        interface = description.interface(output)
    except InterfaceError as error:
        raise ValueError(f"model={handle!r}: {error}") from error
    return ModelFacts(
        format=model.format,
        output=interface.output if len(description.signature.outputs) > 1 else "",
        fixed=(interface.height, interface.width),
        own_size=noted_size,
        takes_bytes=interface.dtype == "uint8",
    )


def _of_keras(path: Path) -> ModelFacts:
    from transforms.models import keras_file

    file = keras_file.read(path)
    fixed = file.image_size or (None, None)
    return ModelFacts(format="keras", fixed=fixed, takes_bytes=file.takes_bytes, known=file.known())


def _of_saved_model(handle: str, path: Path, function: Function) -> ModelFacts:
    from transforms.models import hub, notes  # TensorFlow

    model, noted_size = hub.read(path), notes.image_size(path)
    signature, tags = hub.choose(model, function.signature, function.tags)
    called = model.variants[tags][signature] if signature else None
    in_catalog = catalog.HUB.get(handle)
    sources = (in_catalog.handle if in_catalog else handle, notes.handle(path))
    return ModelFacts(
        format=model.format,
        signature=signature,
        tags=tags,
        fixed=(hub.expected_size(called) if called else None) or (None, None),
        own_size=model.image_size or noted_size,
        usual_size=hub.usual_size(model, tags) or (in_catalog.image_size if in_catalog else None),
        takes_bytes=called is not None and hub.takes_bytes(called),
        is_classifier="image_classification" in model.variants[tags]
        or any("/classification/" in source for source in sources),
    )
