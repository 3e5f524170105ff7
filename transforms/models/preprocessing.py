"""`Preprocessing`: how the pixels of an image become the values that a network takes. Plain data, without NumPy."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from transforms.images.resizing import Resizing

CHANNELS = ("rgb", "bgr")

Triple = tuple[float, float, float]

# The value of a black pixel and of a white one → `mean` and `std`. Keras and TF-Hub know these three ranges.
RANGES: Mapping[str, tuple[Triple, Triple]] = {
    "0..1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "0..255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    "-1..1": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
AS_BYTES = "0..255"


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How the pixels of an image become the values that a network takes. The default is TF-Hub's convention.

    >>> Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)).scale[0] * 255 - 1.0
    1.0

    Attributes:
      mean, std: a value is (pixel / 255 - mean) / std, for each channel in the order in which the network takes them.
      channels: that order, one of CHANNELS.
      resize_mode, interpolation, crop_fraction: see `images.resizing.Resizing`.

    Raises:
      ValueError: if an attribute is invalid.
    """

    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    channels: str = "rgb"
    resize_mode: str = "stretch"
    interpolation: str = "bilinear"
    crop_fraction: float = 1.0

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(math.isfinite(value) for value in values):
                raise ValueError(f"{name}={values!r}: expected three finite numbers, one for each channel")
        if min(self.std) <= 0:
            raise ValueError(f"std={self.std!r}: expected three numbers above 0")
        if self.channels not in CHANNELS:
            raise ValueError(f"channels={self.channels!r}: expected one of {', '.join(CHANNELS)}")
        _ = self.resizing

    @property
    def resizing(self) -> Resizing:
        """How images are brought to the network's size."""
        return Resizing(self.resize_mode, self.interpolation, self.crop_fraction)

    @property
    def scale(self) -> Triple:
        """The factors of a value, which is pixel * scale + offset."""
        first, second, third = (1 / (255 * std) for std in self.std)
        return first, second, third

    @property
    def offset(self) -> Triple:
        """The summands of a value, which is pixel * scale + offset."""
        first, second, third = (0.0 - mean / std for mean, std in zip(self.mean, self.std, strict=True))
        return first, second, third

    def values(self) -> tuple[Triple, Triple, str]:
        """Returns what determines the values of given pixels: `scale`, `offset` and `channels`."""
        return self.scale, self.offset, self.channels

    @property
    def pixel_range(self) -> str | None:
        """The name of the range in RANGES; None for any other mean and standard deviation."""
        return next((name for name, values in RANGES.items() if values == (self.mean, self.std)), None)

    def changes(self) -> dict[str, Any]:
        """Returns the attributes that differ from TF-Hub's convention, by name."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }

    def pixels_text(self) -> str:
        """Returns the values that pixels become, for people."""
        if self.pixel_range:
            return f"pixels in {self.pixel_range}"
        mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (self.mean, self.std))
        return f"pixels / 255, less the mean {mean}, over {std}"

    def text(self) -> str:
        """Returns the preprocessing in one line, for people."""
        crop = f", the centre {self.crop_fraction:g} of each side" if self.crop_fraction != 1 else ""
        return f"{self.pixels_text()}, {self.channels.upper()}, {self.resize_mode}, {self.interpolation}{crop}"

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "Preprocessing":
        """Returns the preprocessing from which `dataclasses.asdict` made these facts, perhaps by way of JSON.

        Raises:
          ValueError, TypeError, KeyError: if they are not such facts.
        """
        tuples = {name: tuple(map(float, facts[name])) for name in ("mean", "std")}
        return cls(**{**facts, **tuples})


@dataclasses.dataclass(frozen=True)
class Choices:
    """What one source says about the preprocessing of a model: flags, a file or a table. None: it says nothing.

    Attributes:
      image_size: (height, width) of the images in pixels.
      mean, std, channels, resize_mode, interpolation, crop_fraction: see Preprocessing. Mean and std come together.
    """

    image_size: tuple[int, int] | None = None
    mean: Triple | None = None
    std: Triple | None = None
    channels: str | None = None
    resize_mode: str | None = None
    interpolation: str | None = None
    crop_fraction: float | None = None

    def chosen(self) -> dict[str, Any]:
        """Returns the choices that were made, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def over(self, other: "Choices") -> "Choices":
        """Returns these choices, and those of `other` where there are none."""
        return Choices(**(other.chosen() | self.chosen()))

    def preprocessing(self) -> Preprocessing:
        """Returns the preprocessing, with TF-Hub's convention where nothing was chosen."""
        return Preprocessing(**{name: value for name, value in self.chosen().items() if name != "image_size"})


TF_HUB, NO_CHOICES = Preprocessing(), Choices()


def of_range(name: str) -> Choices:
    """Returns the choice of a range, one of RANGES."""
    mean, std = RANGES[name]
    return Choices(mean=mean, std=std)
