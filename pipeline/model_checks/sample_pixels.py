"""The sample images as a model gets them: to measure a model on photographs before a run starts."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.flags.options import SAMPLES
from transforms.images import decoding
from transforms.models.spec import ModelSpec

if TYPE_CHECKING:
    from transforms.models.engines.fixed_batches import Pixels


def sample_pixels(model: ModelSpec) -> "Pixels":
    """Returns the sample images at the size of the model, uint8 (n, height, width, 3)."""
    import numpy as np

    size, resizing = model.image_size, model.preprocessing.resizing
    files = sorted(Path(SAMPLES).parent.glob(Path(SAMPLES).name))
    return np.stack([decoding.decode(file.read_bytes(), size, resizing).pixels for file in files])
