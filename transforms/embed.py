"""Embedding: `DecodedBlock`s → `Embedding`s, by RunInference with one model that all threads share."""

import dataclasses
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.utils.windowed_value import WindowedValue

from transforms.concurrent.process_meter import METER
from transforms.elements import counters
from transforms.elements.blocks import Blocks, check_batch_size
from transforms.elements.formats import VECTOR_TYPES
from transforms.elements.records import DecodedBlock, DecodedImage, Embedding, Failure, ImageInfo, StageSeconds
from transforms.elements.stage import FAILURES, SECONDS, Stage, StageOutput, with_stage_outputs
from transforms.models import portable
from transforms.models.engines import device
from transforms.models.engines.fixed_batches import BATCH_SIZE_DEFAULT, InferenceError
from transforms.models.engines.lazy import LazyModel
from transforms.models.spec import ModelSpec
from transforms.storage import account

if TYPE_CHECKING:  # at run time it would import TensorFlow, which only a worker needs, and only once it embeds
    from transforms.models.engines.loading import EmbeddingModel, ModelCall

STAGE = "embed"
# Names of the times that a call of the model waits: for its turn, and for the model to be loaded.
WAIT, LOAD = "wait", "load"
# The name of the time of whole bundles: all steps that are fused with the model's, and Beam's own work between them.
BUNDLE = "bundle"
_SHORTEST_WAIT_SECONDS = 1e-4  # anything shorter is the time that measuring takes


class NonFiniteVector(ValueError):
    """A vector with NaN or infinite components."""


class ZeroVector(ValueError):
    """A vector of zeros, which has no direction to compare."""


class Prediction(NamedTuple):
    """The result of one call of the model.

    Attributes:
      infos: of the images of the call.
      vectors: float32 (n - len(errors), dimension), of the images without an error, in their order.
      errors: the model's, by the index of the image.
      seconds: of the model, and of the waits before it.
    """

    infos: tuple[ImageInfo, ...]
    vectors: npt.NDArray[np.float32]
    errors: dict[int, InferenceError]
    seconds: tuple[StageSeconds, ...]


def call_seconds(call: "ModelCall", images: int, seconds: float) -> tuple[StageSeconds, ...]:
    """Returns the times of one call for `images` images: the `seconds` of the model, and the waits before it."""
    times = [StageSeconds.of(STAGE, seconds, items=images, calls=1, device=call.device)]
    for stage, waited in ((WAIT, call.waited), (LOAD, call.loading)):
        if waited > _SHORTEST_WAIT_SECONDS:
            times.append(StageSeconds.of(stage, waited, items=images, calls=1))
    return tuple(times)


class EmbeddingModelHandler(ModelHandler[DecodedBlock, Prediction, LazyModel]):
    """Adapts a model to Beam's contract: blocks of uint8 images in, vectors out. The pixels are dropped.

    Beam makes no batches, because a block is one. Beam's own TensorFlow handlers load models through Keras, whose
    version 3 cannot open a SavedModel directory.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        batch_size: int = BATCH_SIZE_DEFAULT,
        share_model_across_processes: bool = False,
        needs_gpu: bool = False,
    ):
        """Stores the model's small description, which travels to the workers. They load the model itself.

        Args:
          spec, batch_size: of the model, and the images per call of it.
          share_model_across_processes: whether all worker processes of a machine share one model, and send it their
            batches through a socket. Otherwise the threads of each process share one.
          needs_gpu: whether a worker without a GPU fails. Otherwise it embeds on the CPU.
        """
        super().__init__()
        self._spec = spec
        self._batch_size = batch_size
        self._shared = share_model_across_processes
        self._needs_gpu = needs_gpu

    def load_model(self) -> LazyModel:
        self._check_gpu()
        return LazyModel(self._load)

    def _check_gpu(self) -> None:
        if self._needs_gpu and self._spec.format in portable.FORMATS.values():
            from transforms.models.engines import onnx_runtime

            onnx_runtime.check_gpu(self._spec.format)
        else:
            device.check_gpu(self._needs_gpu)

    def _load(self) -> "EmbeddingModel":
        account.complete()  # on a worker too, before OpenVINO is imported
        with METER.loading():
            from transforms.models.engines import loading

            return loading.load(self._spec, self._batch_size)

    def should_skip_batching(self) -> bool:
        return True

    def run_inference(
        self,
        batch: DecodedBlock,
        model: LazyModel,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[Prediction]:
        start = time.perf_counter()
        with METER.model_call():
            call = model.timed(batch.pixels)
        # Measured here, so that it includes the transport to and from a model that several processes share.
        seconds = time.perf_counter() - start - call.waited - call.loading
        expected = (len(batch) - len(call.errors), self._spec.dimension)
        if call.vectors.shape != expected:
            raise ValueError(
                f"model {self._spec.name!r} gave vectors of shape {call.vectors.shape}: expected {expected}"
            )
        times = call_seconds(call, len(batch), seconds)
        return [Prediction(batch.infos, call.vectors, call.errors, times)]

    def share_model_across_processes(self) -> bool:
        return self._shared

    def get_num_bytes(self, batch: DecodedBlock) -> int:
        """Returns the bytes of a block's pixels, for Beam's metric. Beam's default would pickle every block."""
        return batch.pixels.nbytes

    def get_metrics_namespace(self) -> str:
        """Returns the namespace of Beam's own distributions of batch sizes and seconds per batch."""
        return counters.NAMESPACE


@dataclasses.dataclass(eq=False)
class EmbedImages(Stage):
    """DecodedBlock → StageOutput of Embedding.

    >>> import numpy as np
    >>> from transforms.models.resolve import resolve
    >>> from transforms.elements.records import ImageRef
    >>> info = ImageInfo(ImageRef(b"black.png"), "", "png", 224, 224)
    >>> black = DecodedBlock((info,), np.zeros((1, 224, 224, 3), np.uint8))
    >>> embed = EmbedImages(resolve("efficientnet_lite0"))
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     _ = (pipeline | beam.Create([black]) | embed).main | beam.Map(lambda e: print(e.vector.shape))
    (1280,)

    Attributes:
      spec: the model; images come in its image size.
      batch_size: the most images per call of the model.
      share_model_across_processes: see EmbeddingModelHandler.
      accelerator: a resource hint for inference alone.
      own_stage: whether inference is a stage of its own, so that only inference runs on the workers with the
        accelerator. Pixels then cross the network.
      vector_type: one of formats.VECTOR_TYPES, in which the vectors are stored. An image whose vector is zero in it is
        a failure.

    Raises:
      ValueError: if an attribute is invalid.
    """

    spec: ModelSpec
    batch_size: int = BATCH_SIZE_DEFAULT
    share_model_across_processes: bool = False
    accelerator: str | None = None
    own_stage: bool = False
    vector_type: str = VECTOR_TYPES[0]

    def __post_init__(self) -> None:
        if not isinstance(self.spec, ModelSpec):
            raise ValueError(f"spec={self.spec!r}: expected a ModelSpec, as models.resolve.resolve returns it")  # noqa: TRY004 - as for every attribute
        check_batch_size(self.batch_size)
        if self.vector_type not in VECTOR_TYPES:
            raise ValueError(f"vector_type={self.vector_type!r}: expected one of {', '.join(VECTOR_TYPES)}")

    def expand(self, blocks: beam.PCollection[DecodedBlock]) -> StageOutput[Embedding]:
        handler = EmbeddingModelHandler(
            self.spec,
            batch_size=self.batch_size,
            share_model_across_processes=self.share_model_across_processes,
            needs_gpu=bool(self.accelerator),
        )
        infer: beam.PTransform = RunInference(handler)
        gather: beam.PTransform = beam.ParDo(_Gather(self.spec.image_size, self.batch_size))
        if self.accelerator:
            infer, gather = (step.with_resource_hints(accelerator=self.accelerator) for step in (infer, gather))
        if self.own_stage:
            images = blocks | "ToAccelerator" >> _OneByOne()
            blocks = images | "Blocks" >> gather.with_output_types(DecodedBlock)
        check = with_stage_outputs(_Check(self.vector_type), Embedding)
        return StageOutput.of(blocks | "RunInference" >> infer | "Check" >> check)


class _OneByOne(beam.PTransform):
    """Sends the images of blocks to other workers. A block would be a large element for a shuffle."""

    def expand(self, blocks: beam.PCollection[DecodedBlock]) -> beam.PCollection[DecodedImage]:
        images = blocks | "Images" >> beam.FlatMap(_images).with_output_types(DecodedImage)
        return images | "Reshuffle" >> beam.Reshuffle()


def _images(block: DecodedBlock) -> Iterator[DecodedImage]:
    return map(DecodedImage, block.infos, block.pixels)


class _Gather(beam.DoFn):
    """Images that were sent one by one → blocks."""

    def __init__(self, size: tuple[int, int], batch_size: int):
        self._size = size
        self._batch_size = batch_size

    def setup(self) -> None:
        self._blocks = Blocks(self._size, self._batch_size)

    def start_bundle(self) -> None:
        self._blocks.forget()

    def process(
        self, image: DecodedImage, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterable[DecodedBlock]:
        self._blocks.next_pixels[:] = image.pixels
        yield from self._blocks.add(image.info, timestamp, window)

    def finish_bundle(self) -> Iterator[Any]:
        yield from self._blocks.finish()


class _Check(beam.DoFn):
    def __init__(self, vector_type: str = VECTOR_TYPES[0]):
        self._vector_type = vector_type

    def start_bundle(self) -> None:
        self._images = 0
        self._start = time.perf_counter()
        METER.begin(self)

    def process(
        self, prediction: Prediction, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterable[Embedding]:
        self._images += len(prediction.infos)
        self._at = timestamp, window
        for seconds in prediction.seconds:
            yield beam.pvalue.TaggedOutput(SECONDS, seconds)
        finite: npt.NDArray[np.bool_] = np.all(np.isfinite(prediction.vectors), axis=1)
        with np.errstate(over="ignore"):
            directed: npt.NDArray[np.bool_] = np.any(prediction.vectors.astype(self._vector_type, copy=False), axis=1)
        if embedded := int((finite & directed).sum()):
            counters.inc(counters.IMAGES_EMBEDDED, embedded)
        vectors = zip(prediction.vectors, finite, directed, strict=True)
        for index, info in enumerate(prediction.infos):
            if error := prediction.errors.get(index):
                yield _failure(info, error)
                continue
            vector, is_finite, has_direction = next(vectors)
            if not is_finite:
                yield _failure(info, NonFiniteVector("the model gave NaN or infinite components for this image"))
            elif not has_direction:
                yield _failure(info, ZeroVector("the model gave a vector of zeros for this image"))
            else:
                yield Embedding(info, vector)

    def finish_bundle(self) -> Iterator[Any]:
        if not self._images:
            METER.forget(self)
            return
        spent = METER.end(self)
        bundle = StageSeconds.of(
            BUNDLE,
            time.perf_counter() - self._start,
            items=self._images,
            calls=1,
            core_seconds=spent.core,
            lock_seconds=spent.lock,
        )
        timestamp, window = self._at
        yield beam.pvalue.TaggedOutput(SECONDS, WindowedValue(bundle, timestamp, (window,)))


def _failure(info: ImageInfo, error: Exception) -> beam.pvalue.TaggedOutput:
    return beam.pvalue.TaggedOutput(FAILURES, Failure.of(info.ref.key, STAGE, error))
