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
from transforms.models.engines.lazy import LazyModel
from transforms.models.spec import ModelSpec
from transforms.records import FAILURES, SECONDS, DecodedImage, Embedding, Failure, ImageInfo, StageSeconds

if TYPE_CHECKING:  # for real it would import TensorFlow, which only a worker needs, and only once it embeds
    from transforms.models.engines.loading import EmbeddingModel

STAGE = "embed"
# What calls of the model may have to wait for: their turn, and the model itself.
WAIT, LOAD = "wait", "load"
_NONE = 1e-4  # seconds, below which there was nothing to wait for
BATCH_SIZE_DEFAULT = 32


class NonFiniteVector(ValueError):
    """A vector with NaN or infinite components."""


class Call(NamedTuple):
    """A call of the model, for a batch.

    Attributes:
      images: in it.
      seconds: of the model; waited: for a turn, where more threads call it than it takes at once; loading: until the
        model was there, 0.0 once it is.
      device: what it ran on, see models.device.
    """

    images: int
    seconds: float
    waited: float = 0.0
    loading: float = 0.0
    device: str = ""


class Prediction(NamedTuple):
    """A vector, float32 (dimension,), whose image it is, and the call that it comes from."""

    info: ImageInfo
    vector: npt.NDArray[np.float32]
    call: Call


class EmbeddingModelHandler(ModelHandler[DecodedImage, Prediction, LazyModel]):
    """Beam's contract for a model over this project's: uint8 batches in, vectors out, the pixels dropped.

    Beam's own TensorFlow handlers load through Keras, which in its version 3 opens no SavedModel directory.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        batch_size: int = BATCH_SIZE_DEFAULT,
        share_model_across_processes: bool = False,
        needs_gpu: bool = False,
    ):
        """Takes which model to load, where it is needed.

        Args:
          spec: the model; small, and all that travels to the workers.
          batch_size: images a call of the model.
          share_model_across_processes: one model for all worker processes of a machine, which then hand it their
            batches through a socket; otherwise one for all threads of a process.
          needs_gpu: fail where there is none, and do not embed on the CPU unasked.
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
        found = model.timed(pixels)
        seconds = time.perf_counter() - start - found.waited - found.loading
        expected = (len(batch), self._spec.dimension)
        if found.vectors.shape != expected:
            raise ValueError(
                f"model {self._spec.name!r} gave vectors of shape {found.vectors.shape}: expected {expected}"
            )
        call = Call(len(batch), seconds, found.waited, found.loading, found.device)
        return [Prediction(image.info, vector, call) for image, vector in zip(batch, found.vectors, strict=True)]

    def share_model_across_processes(self) -> bool:
        return self._shared

    def get_num_bytes(self, batch: Sequence[DecodedImage]) -> int:
        """Returns how many bytes of pixels a batch has, for Beam's metric; Beam's own way pickles every batch."""
        return sum(image.pixels.nbytes for image in batch)

    def get_metrics_namespace(self) -> str:
        """Returns where Beam's own distributions of batch sizes and seconds a batch appear."""
        return counters.NAMESPACE


@dataclasses.dataclass(eq=False)
class EmbedImages(beam.PTransform):
    """DecodedImage → Embedding, and `Failure`s and `StageSeconds` under their tags.

    Attributes:
      spec: the model; its image size is that of the pixels.
      batch_size: images a call of the model.
      share_model_across_processes: see EmbeddingModelHandler.
      accelerator: a resource hint for the workers of inference, and no others.
      own_stage: keep inference apart from what comes before it, so that just it runs on those workers: pixels then go
        over the network.
    """

    spec: ModelSpec
    batch_size: int = BATCH_SIZE_DEFAULT
    share_model_across_processes: bool = False
    accelerator: str | None = None
    own_stage: bool = False

    def expand(self, images: beam.PCollection[DecodedImage]) -> beam.pvalue.DoOutputsTuple:
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
        return (
            images
            | "RunInference" >> infer
            | "Check" >> beam.ParDo(_Check()).with_outputs(FAILURES, SECONDS, main="embeddings")
        )


class _Check(beam.DoFn):
    def process(self, prediction: Prediction) -> Iterable[Embedding]:
        call = prediction.call
        share = 1 / call.images
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds(STAGE, call.seconds * share, share, call.device))
        for stage, seconds in ((WAIT, call.waited), (LOAD, call.loading)):
            if seconds > _NONE:
                yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds(stage, seconds * share, share))
        if np.isfinite(prediction.vector).all():
            counters.inc(counters.IMAGES_EMBEDDED)
            yield Embedding(prediction.info, prediction.vector)
        else:
            error = NonFiniteVector("the model gave NaN or infinite components for this image")
            yield beam.pvalue.TaggedOutput(FAILURES, Failure.of(prediction.info.key, STAGE, error))
