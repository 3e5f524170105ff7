"""Loading: `ModelSpec` → `EmbeddingModel`, the one interface behind which every model format and engine stands.

TensorFlow, which takes seconds to import, is imported where it opens or runs the model: not for a bundled model on a
CPU, nor for one whose network is kept there.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from transforms.cores import usable_cores
from transforms.models import handles
from transforms.models.engines import device, openvino_engine
from transforms.models.engines.fixed_batches import BATCH_SIZE_DEFAULT, FixedBatches, Pixels, Vectors
from transforms.models.spec import ModelSpec

_LOG = logging.getLogger(__name__)


Embed = Callable[[Pixels], Vectors]


class ModelCall(NamedTuple):
    """A call of a model for a batch of images: the vectors, and the seconds before the model itself began.

    Attributes:
      vectors: float32 (n, dimension).
      waited: seconds that the call waited for its turn, while other threads used the model.
      device: the device that the model runs on, see `device.name`.
      loading: seconds that the call waited for the model to be loaded; 0.0 once it is.
    """

    vectors: Vectors
    waited: float
    device: str
    loading: float = 0.0


class EmbeddingModel:
    """A model as the pipeline calls it; safe to call from several threads at once."""

    def __init__(self, batches: Embed, calls_at_once: int):
        """Takes the compiled model, and how many threads may be in it at a time; others wait for their turn."""
        self.calls_at_once = calls_at_once
        self._batches = batches
        self._device = device.name()
        self._turns = threading.Semaphore(calls_at_once)

    def __call__(self, pixels: Pixels) -> Vectors:
        """Images, uint8 (n, height, width, 3) → vectors, float32 (n, dimension)."""
        return self.timed(pixels).vectors

    def timed(self, pixels: Pixels) -> ModelCall:
        """Returns the vectors of these images, and how long the call waited for its turn."""
        start = time.perf_counter()
        with self._turns:
            waited = time.perf_counter() - start
            return ModelCall(self._batches(pixels), waited, self._device)


def load(spec: ModelSpec, batch_size: int = BATCH_SIZE_DEFAULT) -> EmbeddingModel:
    """Returns the model that a spec describes, on the GPU where there is one, warm; the same one when asked again.

    Args:
      spec: the model.
      batch_size: the most images that go to the device at once.

    Raises:
      ValueError: if it is not to be had, is no function from images to vectors, or this machine does not compute in
        its precision.
    """
    return _load(spec.bare(), spec.precision, batch_size, handles.files_state(spec.location))


def precisions() -> list[str]:
    """Returns the precisions in which this machine computes, on the GPU where there is one."""
    if device.has_gpu():
        return ["float32", "float16"]
    return openvino_engine.precisions() or ["float32"]


@functools.lru_cache(maxsize=1)  # a launch that has looked at a model need not load it again for its local workers
def _load(spec: ModelSpec, precision: str, batch_size: int, files_state: object) -> EmbeddingModel:
    if precision not in (known := precisions()):
        raise ValueError(f"precision={precision!r}: this machine computes in {', '.join(known)}")
    if device.has_gpu() or openvino_engine.openvino is None:
        model = _by_tensorflow(spec, precision, batch_size)
    else:
        model = _by_openvino(spec, precision, batch_size)
    model(np.zeros((1, *spec.image_size, 3), np.uint8))  # the first call optimizes the graph: that is no batch's time
    return model


def _by_openvino(spec: ModelSpec, precision: str, batch_size: int) -> EmbeddingModel:
    if spec.format == "bundled":
        network = openvino_engine.bundled(spec.name, spec.image_size)
    else:
        from transforms.models.engines import converted

        try:
            network = converted.network(spec)
        except converted.NotConvertible as error:
            if precision != "float32":
                raise ValueError(f"precision={precision!r}: OpenVINO does not take this model ({error})") from error
            _LOG.warning("by TensorFlow, for OpenVINO does not take this model: %s", error)
            return _by_tensorflow(spec, precision, batch_size)
    batch_size = min(batch_size, openvino_engine.images_a_call(network))
    calls = usable_cores()
    run = openvino_engine.compiled(network, spec.image_size, batch_size, precision, calls)
    return EmbeddingModel(FixedBatches(run, batch_size), calls)


def _by_tensorflow(spec: ModelSpec, precision: str, batch_size: int) -> EmbeddingModel:
    from transforms.models.engines import opening, tensorflow_engine

    run = tensorflow_engine.compiled(opening.opened(spec).function, precision)
    return EmbeddingModel(FixedBatches(run, batch_size), tensorflow_engine.calls_at_once())
