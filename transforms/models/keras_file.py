"""`.keras` files: what their JSON says about the model, without loading it. No TensorFlow, no Keras."""

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transforms.elements.one_line import one_line
from transforms.models import archives
from transforms.models.preprocessing import AS_BYTES, Choices, of_range

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# The modes of keras.applications.imagenet_utils.preprocess_input.
MODES: Mapping[str, Choices] = {
    "caffe": Choices(
        mean=(103.939 / 255, 116.779 / 255, 123.68 / 255), std=(1 / 255, 1 / 255, 1 / 255), channels="bgr"
    ),
    "tf": of_range("-1..1"),
    "torch": Choices(mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
}
# The names that keras.applications gives its models → the mode of their preprocess_input.
_APPLICATIONS = {
    r"resnet(50|101|152)|vgg(16|19)": "caffe",
    r"resnet(50|101|152)v2|inception_v3|inception_resnet_v2|xception|nasnet_(mobile|large)"
    r"|mobilenet(v2)?_\d\.\d\d_(None|\d+)": "tf",
    r"densenet(121|169|201)": "torch",
}
# The models whose preprocess_input does nothing, because the network begins with it. It can be left out.
_PREPROCESSING_INSIDE = (
    r"efficientnetb[0-7]|efficientnetv2-(b[0-3]|s|m|l)|MobileNetV3(Small|Large)|convnext_(tiny|small|base|large|xlarge)"
)
KERAS_HUB = "keras_hub"
# The registered names of KerasHub's image encoders → the values that these networks were trained on.
_ENCODERS = {
    "keras_hub>CLIPVisionEncoder": Choices(mean=_CLIP_MEAN, std=_CLIP_STD, interpolation="bicubic"),
    "keras_hub>SigLIPVisionEncoder": of_range("-1..1").over(Choices(interpolation="bicubic")),
    "keras_hub>DINOV2Backbone": Choices(mean=_IMAGENET_MEAN, std=_IMAGENET_STD, interpolation="bicubic"),
}

# The layers by which such networks begin.
_OF_PREPROCESSING = ("Rescaling", "Normalization")
# Keras converts values to the type of the input, so all fractions would be 0.
_OF_WHOLE_NUMBERS = ("uint8", "uint16", "uint32", "int16", "int32", "int64")
_WITH_CLASS_TOKEN = ("keras_hub>CLIPVisionEncoder", "keras_hub>DINOV2Backbone")


class KerasFile(NamedTuple):
    """What a `.keras` file says about its model.

    Attributes:
      name: of the model.
      registered_name: of its class; "" for the classes of Keras itself.
      image_size: the (height, width) that its input is fixed to, in pixels; None where it is free.
      has_preprocessing: whether the layer after the input rescales 0..255 to the values that the other layers take.
      takes_bytes: whether its input has whole numbers.
      has_class_token: whether the first of its tokens stands for the whole image, as KerasHub's own poolers take it.
      packages: those that its classes are registered by, such as `keras_hub`.
    """

    name: str
    registered_name: str
    image_size: tuple[int, int] | None
    has_preprocessing: bool
    takes_bytes: bool
    packages: frozenset[str]
    has_class_token: bool

    def known(self) -> Choices:
        """Returns the preprocessing of a model that this project knows by its name; no choice for any other."""
        for names, mode in _APPLICATIONS.items():
            if re.fullmatch(names, self.name):
                return MODES[mode]
        if re.fullmatch(_PREPROCESSING_INSIDE, self.name) and self.has_preprocessing:
            return of_range(AS_BYTES)
        return _ENCODERS.get(self.registered_name, Choices())


def read(file: Path) -> KerasFile:
    """Returns what a `.keras` file says about its model.

    Raises:
      ValueError: if the file is none, or if its only input takes no images.
    """
    named = f"model={str(file)!r}"
    try:
        with zipfile.ZipFile(file) as archive:
            info = archive.getinfo("config.json")
            if info.file_size > archives.MAX_JSON_BYTES:
                raise ValueError(
                    f"its config.json has {info.file_size} bytes: expected {archives.MAX_JSON_BYTES} or less"
                )
            facts = json.loads(archive.read(info))
    except (OSError, ValueError, KeyError, RecursionError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{named} is not a .keras file: {one_line(error)}") from error
    except zipfile.BadZipFile as error:
        raise ValueError(f"{named} is not a .keras file: {error}") from error
    facts = _dict(facts)
    config = _dict(facts.get("config"))
    layers = [_dict(layer) for layer in _list(config.get("layers"))]
    input_config = _dict(layers[0].get("config")) if layers else {}
    shape = _list(input_config.get("batch_shape"))
    if image_shape := _list(config.get("image_shape")):  # of KerasHub's encoders
        shape = [None, *image_shape]
    elif sum(layer.get("class_name") == "InputLayer" for layer in layers) == 1:
        _check_shape(named, shape)
    return KerasFile(
        name=str(config.get("name", "")),
        registered_name=str(facts.get("registered_name") or ""),
        image_size=_size(shape or _list(_dict(facts.get("build_config")).get("input_shape"))),
        has_preprocessing=len(layers) > 1 and layers[1].get("class_name") in _OF_PREPROCESSING,
        takes_bytes=input_config.get("dtype") in _OF_WHOLE_NUMBERS,
        packages=frozenset(_packages(facts)),
        has_class_token=facts.get("registered_name") in _WITH_CLASS_TOKEN,
    )


def _check_shape(named: str, shape: Sequence[Any]) -> None:
    if shape and (len(shape) != 4 or shape[3] not in (3, None)):
        text = " × ".join("?" if size is None else str(size) for size in shape[1:])
        raise ValueError(f"{named} takes {text} values: expected RGB images, height × width × 3")


def _size(shape: Sequence[Any]) -> tuple[int, int] | None:
    if len(shape) != 4 or not all(isinstance(size, int) and size > 0 for size in shape[1:3]) or shape[3] != 3:
        return None
    return shape[1], shape[2]


def _packages(facts: Any) -> set[str]:
    """Returns the packages in the registered names at any depth. The depth of the JSON is bounded by its parser."""
    packages, waiting = set(), [facts]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            package, separator, _ = str(value.get("registered_name") or "").partition(">")
            packages |= {package} if separator else set()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return packages


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
