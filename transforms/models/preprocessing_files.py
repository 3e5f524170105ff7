"""Files beside a model that state its preprocessing, as Hugging Face and OpenCLIP write them.

They are JSON, perhaps of a stranger, and nothing in them is run. A field that this project cannot honour is an error,
because the vectors would otherwise be silently wrong.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transforms.elements.one_line import one_line
from transforms.models.preprocessing import Choices, Triple

PREPROCESSOR, OPEN_CLIP, PREPROCESS_CFG = "preprocessor_config.json", "open_clip_config.json", "preprocess_cfg.json"
NAMES = (PREPROCESSOR, OPEN_CLIP, PREPROCESS_CFG)

# Such a file has under 2 KB.
_MAX_BYTES = 2**20

# PIL.Image.Resampling, by its numbers: processors resize by Pillow.
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "pillow_bilinear", 3: "bicubic", 4: "box", 5: "hamming"}

# Fields of preprocessor_config.json that change no value. Images are RGB here, whatever do_convert_rgb says.
_NO_VALUE = {
    "_processor_class",
    "_valid_processor_keys",
    "auto_map",
    "data_format",
    "default_to_square",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "feature_extractor_type",
    "image_processor_type",
    "input_data_format",
    "processor_class",
    "return_tensors",
}
_HONOURED = {
    "crop_pct",
    "crop_size",
    "do_center_crop",
    "do_flip_channel_order",
    "do_flip_channels",
    "do_normalize",
    "do_rescale",
    "do_resize",
    "image_mean",
    "image_std",
    "resample",
    "rescale_factor",
    "size",
}
# The processors of transformers that do no more than their fields say. Others resize by rules of their own. The field
# `size` may be a single number. The first group takes it for the shorter side, the second group for both sides.
_SHORTER_SIDE = ("Bit", "CLIP", "ChineseCLIP", "ConvNext", "MobileNetV1", "MobileNetV2", "MobileViT", "ViTHybrid")
_BOTH_SIDES = ("Beit", "Blip", "DINOv3ViT", "Deit", "DeiT", "EfficientFormer", "Pvt", "Siglip", "ViT")
_PROCESSORS = (*_SHORTER_SIDE, *_BOTH_SIDES)
_PROCESSOR = re.compile(rf"({'|'.join(_PROCESSORS)})(ImageProcessor(Fast)?|FeatureExtractor)")
# ConvNextImageProcessor stretches images from this size on, and crops smaller ones by `crop_pct`.
_CONVNEXT_STRETCHES = 384

# A size in pixels: (height, width), or the shorter side alone.
_Size = tuple[int, int] | int

# The defaults of open_clip's PreprocessCfg: src/open_clip/transform.py.
_OPEN_CLIP_DEFAULTS: Mapping[str, Any] = {
    "size": 224,
    "mode": "RGB",
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
_OPEN_CLIP_MODES = {"shortest": "crop", "squash": "stretch", "longest": "pad"}


def find(path: Path) -> dict[str, Path]:
    """Returns name → file of the preprocessing files beside a model, which is a file or a directory."""
    directory = path if path.is_dir() else path.parent
    return {name: directory / name for name in NAMES if (directory / name).is_file()}


def text(path: Path) -> str:
    """Returns the texts of all files beside a model; "" where there is none."""
    return "\n".join(_read(file).decode("utf-8", "replace") for file in find(path).values())


def choices(path: Path) -> Choices:
    """Returns the preprocessing that the files beside a model state; no choice if there are no files.

    Raises:
      ValueError: if a field cannot be honoured, or if two files contradict each other.
    """
    combined, source = Choices(), ""
    for name, file in find(path).items():
        own = _parse(file, _READERS[name])
        for field, value in own.chosen().items():
            other = getattr(combined, field)
            if other is not None and not _same(other, value):
                raise ValueError(f"{str(file)!r}: its {field} is {value}, and {source} says {other}: remove one file")
        combined, source = combined.over(own), name
    return combined


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple):
        return all(map(_same, a, b))
    return a == b or (isinstance(a, float) and math.isclose(a, b, rel_tol=1e-3))


def _read(file: Path) -> bytes:
    with file.open("rb") as content:
        text = content.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise ValueError(f"{str(file)!r}: expected at most {_MAX_BYTES} bytes")
    return text


def _parse(file: Path, reader: Callable[[dict[str, Any]], Choices]) -> Choices:
    try:
        facts = json.loads(_read(file))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(file)!r}: expected JSON: {one_line(error)}") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{str(file)!r}: expected a JSON object")  # noqa: TRY004 - a file's content, not an argument
    try:
        own = reader(facts)
        own.preprocessing()  # checks the values
    except ValueError as error:
        raise ValueError(f"{str(file)!r}: {one_line(error)}") from error
    return own


def _of_preprocessor(facts: dict[str, Any]) -> Choices:
    """Returns the choices of Hugging Face's preprocessor_config.json (transformers, image_processing_utils.py).

    A processor resizes, crops the centre, rescales, normalizes and reorders the channels, in this order.
    """
    facts = {name: value for name, value in facts.items() if value is not None}
    for name, value in facts.items():
        if name not in _HONOURED | _NO_VALUE and value is not False:
            raise ValueError(f"the field {name!r} is {_excerpt(value)}, which this project does not know")
    processor = _processor(facts)
    if processor == "MobileViT":  # it has no do_normalize
        facts = {"do_normalize": False, "do_flip_channel_order": True} | facts
    mean, std = _mean_and_std(facts)
    values = Choices(mean=mean, std=std, channels=_channels(facts), interpolation=_interpolation(facts))
    return values.over(_size_and_crop(facts, processor))


def _processor(facts: Mapping[str, Any]) -> str:
    """Returns the processor, one of _PROCESSORS; "" if the file does not name it."""
    name = facts.get("image_processor_type") or facts.get("feature_extractor_type")
    if name is None:
        return ""
    processor = _PROCESSOR.fullmatch(str(name))
    if processor is None:
        raise ValueError(
            f"the processor {_excerpt(name)} is not known, and it may resize by rules of its own: remove the file, and "
            "give what the processor does by --resize_mode, --crop_fraction, --interpolation, --pixel_mean and "
            f"--pixel_std; known are {', '.join(sorted(_PROCESSORS))}"
        )
    return processor[1]


def _mean_and_std(facts: dict[str, Any]) -> tuple[Triple, Triple]:
    """Returns mean and std on the scale from 0 to 1, of values (pixel * rescale_factor - image_mean) / image_std."""
    factor = 1.0
    if _flag(facts, "do_rescale", True):
        factor = _number(facts, "rescale_factor", 1 / 255)
        if factor <= 0:
            raise ValueError(f"the field 'rescale_factor' is {factor}: expected a number above 0")
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if _flag(facts, "do_normalize"):
        mean, std = _triple(facts, "image_mean"), _triple(facts, "image_std")
    if math.isclose(factor, 1 / 255, rel_tol=1e-6):
        return mean, std
    return _scaled(mean, 1 / (255 * factor)), _scaled(std, 1 / (255 * factor))


def _channels(facts: Mapping[str, Any]) -> str:
    """Returns the order of the channels: `do_flip_channel_order`, of which `do_flip_channels` is an older name."""
    if not (_flag(facts, "do_flip_channel_order", False) or _flag(facts, "do_flip_channels", False)):
        return "rgb"
    if _flag(facts, "do_normalize"):
        raise ValueError("the field 'do_flip_channel_order' is true: expected it without do_normalize")
    return "bgr"


def _interpolation(facts: Mapping[str, Any]) -> str:
    """Returns the interpolation of the resize: `resample`."""
    if not _flag(facts, "do_resize", True):
        raise ValueError("the field 'do_resize' is false: expected true, because a network gets images of one size")
    resample = facts.get("resample")
    if not isinstance(resample, int) or isinstance(resample, bool) or resample not in _RESAMPLE:
        raise ValueError(
            f"the field 'resample' is {_excerpt(resample)}: expected one of {', '.join(map(str, _RESAMPLE))}"
        )
    return _RESAMPLE[resample]


def _size_and_crop(facts: Mapping[str, Any], processor: str) -> Choices:
    """Returns the image size, the resize mode and the crop fraction, by the rule of a processor."""
    size = _size(facts, "size", processor)
    if processor == "ConvNext":
        return _convnext(facts, size)
    if "crop_pct" in facts:
        raise ValueError(f"the field 'crop_pct' is known of ConvNext's processor only, not of {processor!r}")
    if _flag(facts, "do_center_crop", "crop_size" in facts):
        return _resize_and_crop(size, _size(facts, "crop_size", processor))
    if isinstance(size, tuple):
        return Choices(size, resize_mode="stretch", crop_fraction=1.0)
    raise ValueError("the field 'do_center_crop' is false, and 'size' is the shorter side: images differ in size")


def _resize_and_crop(size: _Size, crop_size: _Size) -> Choices:
    """Returns the rule of do_resize and do_center_crop: resize to `size`, then cut out the centre of `crop_size`."""
    is_shorter_side = isinstance(size, int)
    resized, crop = (_both(each) for each in (size, crop_size))
    fractions = {part / whole for part, whole in zip(crop, resized, strict=True)}
    if len(fractions) != 1 or not 0 < min(fractions) <= 1:
        raise ValueError(f"the field 'crop_size' is {crop} of {resized}: expected the same part of both sides")
    return Choices(crop, resize_mode="crop" if is_shorter_side else "stretch", crop_fraction=fractions.pop())


def _convnext(facts: Mapping[str, Any], size: _Size) -> Choices:
    """Returns the rule of ConvNextImageProcessor: the image size is `size`, cut out of size / crop_pct."""
    if not isinstance(size, int) or _flag(facts, "do_center_crop", False):
        raise ValueError("the field 'size' of ConvNext's processor: expected the shortest_edge alone")
    if size >= _CONVNEXT_STRETCHES:
        return Choices(_both(size), resize_mode="stretch", crop_fraction=1.0)
    return Choices(_both(size), resize_mode="crop", crop_fraction=_number(facts, "crop_pct", 224 / 256))


def _size(facts: Mapping[str, Any], name: str, processor: str) -> _Size:
    """Returns the size in a field: {height, width}, {shortest_edge}, or a number. A number as crop_size is both."""
    match facts.get(name):
        case {"height": height, "width": width, **others} if not others:
            return _pixels(name, height), _pixels(name, width)
        case {"shortest_edge": side, **others} if not others:
            return _pixels(name, side)
        case int(number) if name == "crop_size" or processor in _BOTH_SIDES:
            return _both(_pixels(name, number))
        case int(number) if processor in _SHORTER_SIDE:
            return _pixels(name, number)
        case value:
            raise ValueError(f"the field {name!r} is {_excerpt(value)}: expected height and width, or shortest_edge")


def _both(size: _Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _of_open_clip(facts: dict[str, Any]) -> Choices:
    """Returns the choices of open_clip_config.json: those of its preprocess_cfg, for the size of its tower."""
    model = facts.get("model_cfg")
    vision = model.get("vision_cfg") if isinstance(model, dict) else None
    size = vision.get("image_size") if isinstance(vision, dict) else None
    config = facts.get("preprocess_cfg", {})
    if not isinstance(config, dict):
        raise ValueError("the field 'preprocess_cfg': expected an object")  # noqa: TRY004 - a file's content
    return _of_preprocess_cfg({**({"size": size} if size else {}), **config})


def _of_preprocess_cfg(facts: dict[str, Any]) -> Choices:
    """Returns the choices of a preprocess_cfg, as open_clip's image_transform_v2 reads it for inference."""
    for name, value in facts.items():
        if name not in _OPEN_CLIP_DEFAULTS and value not in (None, False):
            raise ValueError(f"the field {name!r} is {_excerpt(value)}, which this project does not know")
    facts = {**_OPEN_CLIP_DEFAULTS, **facts}
    if facts["mode"] != "RGB":
        raise ValueError(f"the field 'mode' is {_excerpt(facts['mode'])}: expected 'RGB'")
    mode = facts["resize_mode"]
    if not isinstance(mode, str) or mode not in _OPEN_CLIP_MODES:
        raise ValueError(f"the field 'resize_mode' is {_excerpt(mode)}: expected {', '.join(_OPEN_CLIP_MODES)}")
    if mode == "longest" and facts["fill_color"] != 0:
        raise ValueError(f"the field 'fill_color' is {_excerpt(facts['fill_color'])}: expected 0, black")
    interpolation = {"bicubic": "bicubic", "bilinear": "pillow_bilinear"}.get(str(facts["interpolation"]))
    if interpolation is None:
        raise ValueError(
            f"the field 'interpolation' is {_excerpt(facts['interpolation'])}: expected 'bicubic' or 'bilinear'"
        )
    size = facts["size"]
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2:
        raise ValueError(f"the field 'size' is {_excerpt(size)}: expected a number, or height and width")
    return Choices(
        image_size=(_pixels("size", sides[0]), _pixels("size", sides[1])),
        mean=_triple(facts, "mean"),
        std=_triple(facts, "std"),
        channels="rgb",
        crop_fraction=1.0,
        resize_mode=_OPEN_CLIP_MODES[mode],
        interpolation=interpolation,
    )


_READERS: Mapping[str, Callable[[dict[str, Any]], Choices]] = {
    PREPROCESSOR: _of_preprocessor,
    OPEN_CLIP: _of_open_clip,
    PREPROCESS_CFG: _of_preprocess_cfg,
}


def _excerpt(value: Any) -> str:
    """Returns the JSON of a value for a message, at most 60 characters of it."""
    try:
        text = json.dumps(value)
    except RecursionError:  # the parser takes a little deeper nesting than the encoder
        return f"a deep {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}…"


def _flag(facts: Mapping[str, Any], name: str, default: bool | None = None) -> bool:
    value = facts.get(name, default)
    if not isinstance(value, bool):
        raise ValueError(f"the field {name!r} is {_excerpt(value)}: expected true or false")  # noqa: TRY004 - a file's content
    return value


def _number(facts: Mapping[str, Any], name: str, default: float) -> float:
    value = facts.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise ValueError(f"the field {name!r} is {_excerpt(value)}: expected a number")
    return float(value)


def _triple(facts: Mapping[str, Any], name: str) -> Triple:
    values = facts.get(name)
    values = [values] * 3 if isinstance(values, int | float) else values
    if not isinstance(values, list) or len(values) != 3:
        raise ValueError(f"the field {name!r} is {_excerpt(values)}: expected three numbers")
    first, second, third = (_number({name: value}, name, 0.0) for value in values)
    return first, second, third


def _scaled(values: Triple, factor: float) -> Triple:
    first, second, third = (value * factor for value in values)
    return first, second, third


def _pixels(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 100_000:
        raise ValueError(f"the field {name!r} is {_excerpt(value)}: expected a number of pixels")
    return value
