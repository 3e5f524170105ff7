"""The flags that say how a model is used, which become part of its digest: for all commands that take a model."""

import argparse
import math

from pipeline.flags import flag_types
from transforms.images import resizing
from transforms.models import preprocessing
from transforms.models.preprocessing import Choices, Triple

_CROP_FRACTION = flag_types.number_that(lambda fraction: 0 < fraction <= 1, "a number above 0, at most 1, as in 0.875")


def add(group: argparse._ActionsContainer) -> None:
    _add_resizing(group)
    _add_pixel_values(group)
    _add_interface(group)


def _add_resizing(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--image_size",
        type=flag_types.image_size,
        metavar="HxW",
        help="height and width of the images that the model gets, in pixels, as in 224x224 (default: the model's own)",
    )
    group.add_argument(
        "--resize_mode",
        choices=resizing.RESIZE_MODES,
        help="stretch to the size, crop the centre, or pad with black (default: the model's own, else stretch)",
    )
    group.add_argument(
        "--interpolation",
        choices=tuple(resizing.INTERPOLATIONS),
        help="of the resize, as Pillow computes it. With bilinear alone, large JPEGs are decoded at a reduced size, "
        "which is much faster and almost the same as pillow_bilinear (default: the model's own, else bilinear)",
    )
    group.add_argument(
        "--crop_fraction",
        type=_CROP_FRACTION,
        metavar="RATE",
        help="the part of each side that the model gets, as in 0.875: images are resized to 1/RATE of the size, and "
        "the centre is cut out (default: the model's own, else 1)",
    )


def _add_pixel_values(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--pixel_range",
        choices=tuple(preprocessing.RANGES),
        help="the values of black and white pixels that the model was trained with; -1..1 and 0..255 are usual with "
        "Keras (default: the model's own, else 0..1)",
    )
    group.add_argument(
        "--pixel_mean",
        type=_triple,
        metavar="R,G,B",
        help="in place of --pixel_range: the mean of each channel on the scale from 0 to 1, as in 0.485,0.456,0.406, "
        "in the order of --channels. A value is (pixel / 255 - mean) / std",
    )
    group.add_argument(
        "--pixel_std",
        type=_triple,
        metavar="R,G,B",
        help="with --pixel_mean: the standard deviation of each channel, as in 0.229,0.224,0.225",
    )
    group.add_argument(
        "--channels",
        choices=preprocessing.CHANNELS,
        help="the order in which the model takes the channels of a pixel (default: the model's own, else rgb)",
    )


def _add_interface(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--model_signature",
        metavar="NAME",
        help="signature of a SavedModel to call, as in image_feature_vector (default: the model itself if it is "
        "callable, else serving_default; for a TF1 Hub module default)",
    )
    group.add_argument(
        "--model_tags",
        metavar="TAG,TAG",
        type=_tags,
        help="graph variant of a TF1 Hub module, as in train (default: none, the variant for inference)",
    )
    group.add_argument(
        "--model_output",
        metavar="NAME",
        help="output of an ONNX, OpenVINO IR or TFLite model that holds the vectors, as in pooler_output (default: its "
        "only output; a model with several needs the flag)",
    )
    flag_types.add_switch(
        group, "--normalize", "scale each vector to length 1. A vector of zeros stays (default: as the model gives it)"
    )


def choices(args: argparse.Namespace) -> Choices:
    """Returns the preprocessing that the flags state.

    Raises:
      ValueError: if they contradict each other.
    """
    if args.pixel_range and (args.pixel_mean or args.pixel_std):
        raise ValueError(
            "--pixel_range and --pixel_mean: expected one of them, because each tells the values of pixels"
        )
    if (args.pixel_mean is None) != (args.pixel_std is None):
        raise ValueError("--pixel_mean and --pixel_std come together: expected both")
    chosen = preprocessing.of_range(args.pixel_range) if args.pixel_range else Choices()
    own = Choices(
        image_size=args.image_size,
        mean=args.pixel_mean,
        std=args.pixel_std,
        channels=args.channels,
        resize_mode=args.resize_mode,
        interpolation=args.interpolation,
        crop_fraction=args.crop_fraction,
    ).over(chosen)
    own.preprocessing()
    return own


def _triple(text: str) -> Triple:
    numbers = [flag_types.number(part) for part in text.split(",")]
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected three numbers, as in 0.485,0.456,0.406")
    return numbers[0], numbers[1], numbers[2]


def _tags(text: str) -> tuple[str, ...]:
    return tuple(tag for tag in text.split(",") if tag)
