"""The first calls of a model, which show its vectors and how it begins. Nothing here is compiled for speed."""

import dataclasses
import logging

import numpy as np

from transforms.elements.one_line import one_line
from transforms.models import checked_copy, portable
from transforms.models.engines import interruptible
from transforms.models.engines.fixed_batches import Pixels, Vectors
from transforms.models.image_interface import InterfaceError
from transforms.models.spec import ModelSpec

_LOG = logging.getLogger(__name__)

_NOISE_IMAGES = 16


def embed(spec: ModelSpec, pixels: Pixels) -> Vectors:
    """Returns the vectors of images, uint8 (n, height, width, 3), in float32, as the model itself gives them.

    Raises:
      Exception: those of TensorFlow's operations, and ValueError if the model cannot be obtained or run.
    """
    if spec.format in portable.FORMATS.values():
        from transforms.models.engines import loading

        return loading.load(dataclasses.replace(spec, precision="float32"))(pixels)
    from transforms.models.engines import opening

    return interruptible.call(lambda: opening.open_model(spec)(pixels))


def dimension(spec: ModelSpec) -> int:
    """Returns the length of a model's vectors, from a call with two black images."""
    black = np.zeros((2, *spec.image_size, 3), np.uint8)
    try:
        vectors = embed(spec, black)
    except InterfaceError as error:
        raise ValueError(f"model={spec.name!r}: {error}") from error
    except ValueError:
        raise
    except Exception as error:  # a model's operations raise any class; its spec is not made
        size = "x".join(map(str, spec.image_size))
        raise ValueError(f"model={spec.name!r} fails on images of {size} pixels: {one_line(error)}") from error
    if vectors.ndim != 2 or vectors.shape[0] != 2 or vectors.dtype != np.float32:
        raise ValueError(
            f"model={spec.name!r} gives {vectors.dtype}{list(vectors.shape)} for 2 images: "
            "expected one vector per image, float32[2, dimension]"
        )
    return int(vectors.shape[1])


def gives_probabilities(spec: ModelSpec) -> bool:
    """Returns whether all outputs for images of noise lie in [0, 1].

    The images have different colours, because the logits of few classes may lie there by chance for one image.
    """
    rng = np.random.default_rng(0)
    darkest, brightest = np.sort(rng.integers(0, 256, (2, _NOISE_IMAGES, 1, 1, 3)), axis=0)
    noise = rng.integers(darkest, brightest + 1, (_NOISE_IMAGES, *spec.image_size, 3)).astype(np.uint8)
    try:
        outputs = embed(spec, noise)
    except Exception as error:  # noqa: BLE001 - as above, and a model may refuse noise
        _LOG.warning("the outputs of the model count as logits, because it fails on noise: %s", one_line(error))
        return False
    return bool(((outputs >= 0) & (outputs <= 1)).all())


def rescaling(spec: ModelSpec) -> float | None:
    """Returns the factor by which the network first multiplies the values that it gets.

    Returns:
      None where it begins otherwise, or where that is not certain.
    """
    if spec.format not in portable.FORMATS.values():
        from transforms.models.engines import graph_start, opening

        # The first factor belongs to the preprocessing in front of the network.
        _, *own = [*graph_start.factors(opening.open_model(spec).function), None][:2]
        return own[0] if own else None
    from transforms.models.engines import portable_openvino

    with checked_copy.files(spec) as path:
        model = portable.find(path)
        try:
            return portable_openvino.first_factor(portable_openvino.read(model)) if model else None
        except portable_openvino.NotRunnable:
            return None
