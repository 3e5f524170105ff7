"""A first call of a model: what its vectors are, and how it begins. Nothing here is compiled for speed."""

import dataclasses

from transforms.models import handles, keras_file, portable
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

    return opening.open_model(spec)(pixels)


def rescaling(spec: ModelSpec) -> float | None:
    """Returns the factor by which the network first multiplies the values that it gets.

    Returns:
      None where it begins otherwise, or where that is not certain: a SavedModel is not looked into.
    """
    path = handles.local_path(spec.location, spec.billing_project)
    if spec.format == "keras":
        first = keras_file.read(path).rescaling
        return first[0] if first else None
    model = portable.find(path)
    if model is None:
        return None
    from transforms.models.engines import portable_openvino

    try:
        return portable_openvino.first_factor(portable_openvino.read(model))
    except portable_openvino.NotRunnable:
        return None
