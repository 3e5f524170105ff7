"""How a network of any shape takes images and gives vectors, derived from its inputs and outputs."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from transforms.models.tensors import Signature, TensorInfo, listed

_INPUT_DTYPES = ("float32", "float16", "uint8")
_OUTPUT_DTYPES = ("float32", "float16", "bfloat16", "float64")
_CHANNELS = 3


class InterfaceError(ValueError):
    """A network does not map images to vectors, or an output has to be chosen."""


@dataclasses.dataclass(frozen=True)
class ImageInterface:
    """How a network takes images and gives vectors.

    Attributes:
      dtype: of the images: `uint8` for bytes; `float32` or `float16` for values in [0, 1].
      channels_first: whether they are (n, 3, height, width), else (n, height, width, 3).
      batch_size: the number of images that a call takes; None for any number.
      height, width: of the images in pixels; None for any.
      output: the name of the output with the vectors.
    """

    dtype: str
    channels_first: bool
    batch_size: int | None
    height: int | None
    width: int | None
    output: str

    def shape(self, image_size: tuple[int, int], batch_size: int) -> tuple[int, int, int, int]:
        """Returns the shape of the network's input for a number of images of a (height, width) in pixels."""
        if self.channels_first:
            return batch_size, _CHANNELS, *image_size
        return batch_size, *image_size, _CHANNELS


def derive(signature: Signature, output: str | None, *, channels_first: bool) -> ImageInterface:
    """Returns how a network takes images.

    Args:
      signature: of the network.
      output: the name of the output with the vectors; None for the only one.
      channels_first: the layout where none of the axes, or more than one, has three channels.

    Raises:
      InterfaceError: if it takes other inputs than images, has several outputs and none is chosen, or the chosen one
        cannot be a vector for each image.
    """
    ((name, images),) = signature.inputs.items() if len(signature.inputs) == 1 else (("", TensorInfo("", None)),)
    dtypes = " or ".join(_INPUT_DTYPES)
    expected = f"expected one input, {dtypes}, of shape [?, 3, height, width] or [?, height, width, 3]"
    if images.dtype not in _INPUT_DTYPES or images.shape is None or len(images.shape) != 4:
        raise InterfaceError(f"not a model of images: it has {signature}; {expected}")
    batch_size, second, third, fourth = images.shape
    is_first, is_last = second == _CHANNELS, fourth == _CHANNELS
    if is_first != is_last:
        channels_first = is_first
    elif (second if channels_first else fourth) not in (None, _CHANNELS):
        raise InterfaceError(f"not a model of colour images: its input is {name}: {images}; {expected}")
    height, width = (third, fourth) if channels_first else (second, third)
    return ImageInterface(images.dtype, channels_first, batch_size, height, width, _chosen(signature.outputs, output))


def _chosen(outputs: Mapping[str, TensorInfo], output: str | None) -> str:
    if output is None and len(outputs) != 1:
        raise InterfaceError(f"it has {len(outputs)} outputs: give model_output, the name of one of {listed(outputs)}")
    if output is None:
        (output,) = outputs
    if output not in outputs:
        raise InterfaceError(f"model_output={output!r}: expected one of {listed(outputs)}")
    if outputs[output].dtype not in _OUTPUT_DTYPES:
        raise InterfaceError(f"the output is {output}: {outputs[output]}: expected a vector of floats for each image")
    return output


def dimension(shape: Sequence[int], images: int, output: str) -> int:
    """Returns the components of a vector in an output of that shape. Axes of size 1 do not count.

    Raises:
      InterfaceError: if the output, of that name, is not one vector for each of `images` images.
    """
    axes = [size for size in shape[1:] if size != 1]
    if len(shape) < 2 or shape[0] != images or len(axes) > 1 or 0 in axes:
        raise InterfaceError(
            f"the output {output!r} has the shape {list(shape)} for {images} images: expected one vector for each, "
            f"[{images}, dimension] with any axes of size 1; choose another output, or export the model with its "
            "pooling"
        )
    return math.prod(axes)
