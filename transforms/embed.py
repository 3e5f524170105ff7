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
from transforms.models.spec import ModelSpec
from transforms.records import FAILURES, SECONDS, DecodedImage, Embedding, Failure, ImageInfo, StageSeconds

if TYPE_CHECKING:  # for real it would import TensorFlow, which only a worker needs, and only once it embeds
    from transforms.models.loading import EmbeddingModel

STAGE = "embed"
# Waiting for a turn in the model, where more threads are ready than it takes at once.
WAIT = "wait"
_NO_WAIT = 1e-5  # seconds an image, below which a turn was free
BATCH_SIZE_DEFAULT = 32


class NonFiniteVector(ValueError):
    """A vector with NaN or infinite components."""


class Prediction(NamedTuple):
    """A vector, float32 (dimension,), whose image it is, and that image's share of the batch.

    Attributes:
      seconds: of inference; share: of 1; waited: seconds for other threads' calls to end.
    """

    info: ImageInfo
    vector: npt.NDArray[np.float32]
    seconds: float
    share: float = 1.0
    waited: float = 0.0


class EmbeddingModelHandler(ModelHandler[DecodedImage, Prediction, "EmbeddingModel"]):
    """Beam's contract for a model over this project's: uint8 batches in, vectors out, the pixels dropped.

    Beam's own TensorFlow handlers load through Keras, which in its version 3 opens no SavedModel directory.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        batch_size: int = BATCH_SIZE_DEFAULT,
        share_model_across_processes: bool = False,
    ):
        """Takes which model to load, where it is needed.

        Args:
          spec: the model; small, and all that travels to the workers.
          batch_size: images a call of the model.
          share_model_across_processes: one model for all worker processes of a machine, which then hand it their
            batches through a socket; otherwise one for all threads of a process.
        """
        super().__init__(max_batch_size=batch_size, min_batch_size=batch_size)
        self._spec = spec
        self._batch_size = batch_size
        self._shared = share_model_across_processes

    def load_model(self) -> "EmbeddingModel":
        from transforms.models import loading

        return loading.load(self._spec, self._batch_size)

    def run_inference(
        self,
        batch: Sequence[DecodedImage],
        model: "EmbeddingModel",
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[Prediction]:
        pixels = np.stack([image.pixels for image in batch])
        start = time.perf_counter()
        vectors, waited = model.timed(pixels)
        share = 1 / len(batch)
        seconds = (time.perf_counter() - start - waited) * share
        expected = (len(batch), self._spec.dimension)
        if vectors.shape != expected:
            raise ValueError(f"model {self._spec.name!r} gave vectors of shape {vectors.shape}: expected {expected}")
        return [
            Prediction(image.info, vector, seconds, share, waited * share)
            for image, vector in zip(batch, vectors, strict=True)
        ]

    def share_model_across_processes(self) -> bool:
        return self._shared

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
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds(STAGE, prediction.seconds, prediction.share))
        if prediction.waited > _NO_WAIT:
            yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds(WAIT, prediction.waited, prediction.share))
        if np.isfinite(prediction.vector).all():
            counters.inc(counters.IMAGES_EMBEDDED)
            yield Embedding(prediction.info, prediction.vector)
        else:
            error = NonFiniteVector("the model gave NaN or infinite components for this image")
            yield beam.pvalue.TaggedOutput(FAILURES, Failure.of(prediction.info.key, STAGE, error))
