"""Loading: `ModelSpec` → `EmbeddingModel`, the common interface of all model formats and engines.

TensorFlow takes seconds to import, and is imported only where it opens or runs the model. On a CPU, a bundled model and
a model whose network is in the cache do not need it.
"""

import contextlib
import functools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from transforms.concurrent.cores import usable_cores
from transforms.models import checked_copy, portable
from transforms.models.engines import device, interruptible, mosaics, openvino_engine, unit_vectors
from transforms.models.engines.fixed_batches import (
    BATCH_SIZE_DEFAULT,
    BatchResult,
    FixedBatches,
    InferenceError,
    ModelFailure,
    Pixels,
    Vectors,
)
from transforms.models.spec import ModelSpec

_LOG = logging.getLogger(__name__)

# Embeds images, uint8 (n, height, width, 3), for any n.
Embed = Callable[[Pixels], BatchResult]

# After this many failures and no vector, the model may be at fault, not the images.
_SUSPECT_FAILURES = 32


class ModelCall(NamedTuple):
    """The result of a call of a model for a batch of images, and the seconds before the computation began.

    Attributes:
      vectors: float32 (n - len(errors), dimension), of the images without an error, in their order.
      errors: by the index of the image in the batch.
      waited: seconds that the call waited while other threads used the model.
      device: name of the device, see `device.name`.
      loading: seconds that the call waited for the model to be loaded; 0.0 if it was loaded before.
    """

    vectors: Vectors
    errors: dict[int, InferenceError]
    waited: float
    device: str
    loading: float = 0.0


class EmbeddingModel:
    """A model as the pipeline calls it. Thread-safe."""

    def __init__(
        self, on_devices: Sequence[Embed], calls_at_once: int, engine: str = "", device_name: str | None = None
    ):
        """Wraps a compiled model.

        Args:
          on_devices: the model on each device. A call goes to the device that has been free for the longest time.
          calls_at_once: how many threads may call the model on one device at a time; the others wait.
          engine, device_name: for people. Without a name, the device is the one that TensorFlow would use.
        """
        self.engine = engine
        self.calls_at_once = len(on_devices) * calls_at_once
        self._free: queue.SimpleQueue[Embed] = queue.SimpleQueue()
        for _ in range(calls_at_once):
            for embed in on_devices:
                self._free.put(embed)
        self._device = device_name or device.name()
        self._counting = threading.Lock()
        self._embedded = self._failed = 0

    def __call__(self, pixels: Pixels) -> Vectors:
        """Images, uint8 (n, height, width, 3) → vectors, float32 (n, dimension).

        Raises:
          ValueError: if the model fails on one of the images, or on all.
        """
        try:
            result = interruptible.call(lambda: self._embed(pixels))
        except ModelFailure as error:
            raise ValueError(str(error)) from error
        for index, culprit in result.errors.items():
            raise ValueError(f"the model fails on image {index} of {len(pixels)}: {culprit}") from culprit
        return result.vectors

    def timed(self, pixels: Pixels) -> ModelCall:
        """Returns the vectors and errors of the images, uint8 (n, height, width, 3), with the timing of the call.

        Raises:
          ModelFailure: if the model fails on a black image too. Also if it has embedded no image yet, has failed on 32
            or more, and fails on a mosaic of random colours too.
        """
        start = time.perf_counter()
        with self._turn() as embed:
            waited = time.perf_counter() - start
            vectors, errors = embed(pixels)
        if self._is_suspect(len(vectors), len(errors)):
            *_, last = errors.values()
            self._check_embeds_a_mosaic(pixels.shape[1:3], last)
        return ModelCall(vectors, errors, waited, self._device)

    def _embed(self, pixels: Pixels) -> BatchResult:
        with self._turn() as embed:
            return embed(pixels)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[Embed]:
        """Waits for a device that is free, and yields the model on it."""
        embed = self._free.get()
        try:
            yield embed
        finally:
            self._free.put(embed)

    def _is_suspect(self, embedded: int, failed: int) -> bool:
        """Counts the images of a call, and returns whether the model may be at fault, not the images."""
        with self._counting:
            self._embedded += embedded
            self._failed += failed
            return not self._embedded and failed > 0 and self._failed >= _SUSPECT_FAILURES

    def _check_embeds_a_mosaic(self, image_size: tuple[int, int], last: InferenceError) -> None:
        try:
            self(mosaics.mosaics(1, image_size))
        except ValueError as error:
            raise ModelFailure(
                f"the model fails on every image, {self._failed} so far and a mosaic of random colours: {last}"
            ) from error
        with self._counting:
            self._embedded += 1  # it works, so the images are at fault


def load(spec: ModelSpec, batch_size: int = BATCH_SIZE_DEFAULT) -> EmbeddingModel:
    """Returns the model of a spec, on the GPU if there is one. Its first call takes no longer than later ones.

    A second call with the same arguments returns the same object. A call of the device has at most `batch_size` images.

    Raises:
      ValueError: if the model cannot be obtained, does not map images to vectors, or needs a precision that this
        machine lacks.
    """
    return interruptible.call(
        lambda: _load(spec.for_opening(), spec.precision, batch_size, checked_copy.memory_key(spec))
    )


def precisions(model_format: str = "") -> list[str]:
    """Returns the precisions of this machine for a format: those of the GPU where there is one, else of the CPU."""
    if model_format in portable.FORMATS.values():
        from transforms.models.engines import portable_model

        return portable_model.precisions(model_format)
    if device.has_gpu():
        return ["float32", "float16"]
    return openvino_engine.precisions() or ["float32"]


@functools.lru_cache(maxsize=1)  # local workers share the model that the launch loaded
def _load(spec: ModelSpec, precision: str, batch_size: int, files_state: object) -> EmbeddingModel:
    if precision not in (supported := precisions(spec.format)):
        raise ValueError(f"precision={precision!r}: this machine computes in {', '.join(supported)}")
    if spec.format in portable.FORMATS.values():
        return _portable_model(spec, precision, batch_size)
    if device.has_gpu() or openvino_engine.openvino is None:
        return _tensorflow_model(spec, precision, batch_size)
    return _openvino_model(spec, precision, batch_size)


def _openvino_model(spec: ModelSpec, precision: str, batch_size: int) -> EmbeddingModel:
    if spec.format == "bundled":
        network = openvino_engine.bundled(spec.name, spec.image_size)
    else:
        from transforms.models.engines import converted

        try:
            network = converted.network(spec)
        except converted.NotConvertible as error:
            if precision != "float32":
                raise ValueError(f"precision={precision!r}: OpenVINO cannot run this model ({error})") from error
            _LOG.warning("TensorFlow runs this model because OpenVINO cannot: %s", error)
            return _tensorflow_model(spec, precision, batch_size)
    batch_size = min(batch_size, openvino_engine.images_per_call(network))
    calls = usable_cores()
    run = openvino_engine.compile_network(network, spec.image_size, batch_size, precision, calls)
    return EmbeddingModel([FixedBatches(_finished(run, spec), batch_size)], calls, "OpenVINO")


def _finished(run: openvino_engine.Run, spec: ModelSpec) -> openvino_engine.Run:
    """Returns the function of an engine with the steps after the network."""
    return unit_vectors.normalized(run) if spec.normalize else run


def _portable_model(spec: ModelSpec, precision: str, batch_size: int) -> EmbeddingModel:
    from transforms.models.engines import portable_model

    compiled = portable_model.compile_model(spec, precision, batch_size)
    embed = FixedBatches(_finished(compiled.run, spec), compiled.images_per_call)
    model = EmbeddingModel([embed], compiled.calls_at_once, compiled.engine, compiled.device)
    if compiled.engine == portable_model.ONNX_RUNTIME:  # its first call also allocates memory
        model(np.zeros((1, *spec.image_size, 3), np.uint8))
    return model


def _tensorflow_model(spec: ModelSpec, precision: str, batch_size: int) -> EmbeddingModel:
    from transforms.models.engines import opening, tensorflow_engine

    devices = device.gpus() or [None]
    runs = tensorflow_engine.compile_function(opening.open_model(spec).function, precision, devices)
    calls = tensorflow_engine.calls_at_once()
    model = EmbeddingModel([FixedBatches(_finished(run, spec), batch_size) for run in runs], calls, "TensorFlow")
    for _ in devices:  # the first call on a device also optimizes the graph
        model(np.zeros((1, *spec.image_size, 3), np.uint8))
    return model
