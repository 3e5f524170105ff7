"""A first call of a model: what its vectors are, and how it begins. Nothing here is compiled for speed."""

import dataclasses

from transforms.models import held, portable
from transforms.models.engines import interruptible
from transforms.models.engines.fixed_batches import Pixels, Vectors
from transforms.models.spec import ModelSpec


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


def rescaling(spec: ModelSpec) -> float | None:
    """Returns the factor by which the network first multiplies the values that it gets.

    Returns:
      None where it begins otherwise, or where that is not certain.
    """
    if spec.format not in portable.FORMATS.values():
        from transforms.models.engines import graph_start, opening

        # The first factor is of the preprocessing in front of the network.
        _, *own = [*graph_start.factors(opening.open_model(spec).function), None][:2]
        return own[0] if own else None
    from transforms.models.engines import portable_openvino

    with held.files(spec) as path:
        model = portable.find(path)
        try:
            return portable_openvino.first_factor(portable_openvino.read(model)) if model else None
        except portable_openvino.NotRunnable:
            return None
