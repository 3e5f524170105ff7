"""Embedding: `DecodedImage`s → `Embedding`s, by RunInference with one model that all threads share."""

import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
from apache_beam.ml.inference.base import ModelHandler, RunInference

from transforms import counters
from transforms.models.engines import device
from transforms.models.engines.fixed_batches import BATCH_SIZE_DEFAULT, InferenceError, OutOfDeviceMemory
from transforms.models.engines.lazy import LazyModel
from transforms.models.spec import ModelSpec
from transforms.records import DecodedImage, Embedding, Failure, ImageInfo, StageSeconds
from transforms.stage import FAILURES, SECONDS, Stage, StageOutput, with_stage_outputs

if TYPE_CHECKING:  # at run time it would import TensorFlow, which only a worker needs, and only once it embeds
    from transforms.models.engines.loading import EmbeddingModel, ModelCall

STAGE = "embed"
# Names of the times that a call of the model waits: for its turn, and for the model to be loaded.
WAIT, LOAD = "wait", "load"
_SHORTEST_WAIT_SECONDS = 1e-4  # anything shorter is the time that measuring takes


class NonFiniteVector(ValueError):
    """A vector with NaN or infinite components."""


class Prediction(NamedTuple):
    """The vector of an image, float32 (dimension,), or the model's error, and its share of the times of its batch."""

    info: ImageInfo
    vector: npt.NDArray[np.float32] | InferenceError
    seconds: tuple[StageSeconds, ...]


def image_seconds(call: "ModelCall", seconds: float) -> tuple[StageSeconds, ...]:
    """Returns the times of each image of a batch: equal shares of the model's `seconds`, and of the waits before it."""
    share = 1 / (len(call.vectors) + len(call.errors))
    times = [StageSeconds.of(STAGE, seconds * share, calls=share, device=call.device)]
    for stage, waited in ((WAIT, call.waited), (LOAD, call.loading)):
        if waited > _SHORTEST_WAIT_SECONDS:
            times.append(StageSeconds.of(stage, waited * share, calls=share))
    return tuple(times)


class EmbeddingModelHandler(ModelHandler[DecodedImage, Prediction, LazyModel]):
    """Adapts a model to Beam's contract: batches of uint8 images in, vectors out. The pixels are dropped.

    Beam's own TensorFlow handlers load models through Keras, whose version 3 cannot open a SavedModel directory.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        batch_size: int = BATCH_SIZE_DEFAULT,
        share_model_across_processes: bool = False,
        needs_gpu: bool = False,
    ):
        """Stores the model's description. Workers load the model itself.

        Args:
          spec: the model; only this small description travels to the workers.
          batch_size: images per call of the model.
          share_model_across_processes: whether all worker processes of a machine share one model, and send it their
            batches through a socket. Otherwise the threads of each process share one.
          needs_gpu: whether a worker without a GPU fails. Otherwise it embeds on the CPU.
        """
        super().__init__(max_batch_size=batch_size, min_batch_size=batch_size)
        self._spec = spec
        self._batch_size = batch_size
        self._shared = share_model_across_processes
        self._needs_gpu = needs_gpu

    def load_model(self) -> LazyModel:
        device.check_gpu(self._needs_gpu)
        return LazyModel(self._load)

    def _load(self) -> "EmbeddingModel":
        from transforms.models.engines import loading

        return loading.load(self._spec, self._batch_size)

    def run_inference(
        self,
        batch: Sequence[DecodedImage],
        model: LazyModel,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[Prediction]:
        pixels = np.stack([image.pixels for image in batch])
        start = time.perf_counter()
        call = model.timed(pixels)
        # Measured here, so that it includes the transport to and from a model that several processes share.
        seconds = time.perf_counter() - start - call.waited - call.loading
        expected = (len(batch) - len(call.errors), self._spec.dimension)
        if call.vectors.shape != expected:
            raise ValueError(
                f"model {self._spec.name!r} gave vectors of shape {call.vectors.shape}: expected {expected}"
            )
        shares = image_seconds(call, seconds)
        vectors = iter(call.vectors)
        return [
            Prediction(image.info, call.errors[index] if index in call.errors else next(vectors), shares)
            for index, image in enumerate(batch)
        ]

    def share_model_across_processes(self) -> bool:
        return self._shared

    def get_num_bytes(self, batch: Sequence[DecodedImage]) -> int:
        """Returns the bytes of a batch's pixels, for Beam's metric. Beam's default would pickle every batch."""
        return sum(image.pixels.nbytes for image in batch)

    def get_metrics_namespace(self) -> str:
        """Returns the namespace of Beam's own distributions of batch sizes and seconds per batch."""
        return counters.NAMESPACE


@dataclasses.dataclass(eq=False)
class EmbedImages(Stage):
    """DecodedImage → StageOutput of Embedding.

    >>> import numpy as np
    >>> from transforms.models.resolve import resolve
    >>> from transforms.records import ImageRef
    >>> black = np.zeros((224, 224, 3), np.uint8)
    >>> image = DecodedImage(ImageInfo(ImageRef(b"black.png"), "", "png", 224, 224), black)
    >>> embed = EmbedImages(resolve("efficientnet_lite0"))
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     _ = (pipeline | beam.Create([image]) | embed).main | beam.Map(lambda e: print(e.vector.shape))
    (1280,)

    Attributes:
      spec: the model; images come in its image size.
      batch_size: images per call of the model.
      share_model_across_processes: see EmbeddingModelHandler.
      accelerator: a resource hint for inference alone.
      own_stage: whether inference is a stage of its own, so that only inference runs on the workers with the
        accelerator. Pixels then cross the network.

    Raises:
      ValueError: if an attribute is invalid.
    """

    spec: ModelSpec
    batch_size: int = BATCH_SIZE_DEFAULT
    share_model_across_processes: bool = False
    accelerator: str | None = None
    own_stage: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.spec, ModelSpec):
            raise ValueError(f"spec={self.spec!r}: expected a ModelSpec, as models.resolve.resolve returns it")  # noqa: TRY004 - as for every attribute
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size!r}: expected a number of images from 1")

    def expand(self, images: beam.PCollection[DecodedImage]) -> StageOutput[Embedding]:
        handler = EmbeddingModelHandler(
            self.spec,
            batch_size=self.batch_size,
            share_model_across_processes=self.share_model_across_processes,
            needs_gpu=bool(self.accelerator),
        )
        infer = RunInference(handler)
        if self.accelerator:
            infer = infer.with_resource_hints(accelerator=self.accelerator)
        if self.own_stage:
            images |= "ToAccelerator" >> beam.Reshuffle()
        return StageOutput.of(images | "RunInference" >> infer | "Check" >> with_stage_outputs(_Check()))


class _Check(beam.DoFn):
    def process(self, prediction: Prediction) -> Iterable[Embedding]:
        for seconds in prediction.seconds:
            yield beam.pvalue.TaggedOutput(SECONDS, seconds)
        vector = prediction.vector
        if isinstance(vector, InferenceError):
            retryable = isinstance(vector, OutOfDeviceMemory)  # another device may have enough
            yield _failure(prediction.info, vector, retryable)
        elif np.isfinite(vector).all():
            counters.inc(counters.IMAGES_EMBEDDED)
            yield Embedding(prediction.info, vector)
        else:
            yield _failure(prediction.info, NonFiniteVector("the model gave NaN or infinite components for this image"))


def _failure(info: ImageInfo, error: Exception, retryable: bool = False) -> beam.pvalue.TaggedOutput:
    return beam.pvalue.TaggedOutput(FAILURES, Failure.of(info.ref.key, STAGE, error, retryable))
