"""Decoding in processes: `ImageRef`s or `EncodedBlock`s → `DecodedBlock`s, without the worker's GIL."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.utils.windowed_value import WindowedValue

from transforms.concurrent import in_flight
from transforms.concurrent.cores import usable_cores
from transforms.decoders import journal, pool, task
from transforms.decoders.dispatcher import Result
from transforms.decoders.job import JOB_KEY_BYTES, ONE_A_CORE, TIMEOUT_DEFAULT, Done, Settings
from transforms.elements import counters
from transforms.elements.blocks import Blocks, check_batch_size
from transforms.elements.records import DecodedBlock, EncodedBlock, EncodedImage, Failure, ImageRef, StageSeconds
from transforms.elements.stage import FAILURES, SECONDS, Stage, StageOutput, with_stage_outputs
from transforms.images.decode_image import STAGE
from transforms.images.decode_settings import MAX_PIXELS_DEFAULT, DecodeSettings
from transforms.images.resizing import Resizing, as_resizing
from transforms.models.engines.fixed_batches import BATCH_SIZE_DEFAULT
from transforms.storage import read_image
from transforms.storage.context import DEFAULT_STORAGE, Storage

# The name of the time that the worker's threads wait for the processes.
WAIT = "wait_decode"


@dataclasses.dataclass(eq=False)
class DecodeInProcesses(Stage):
    """ImageRef or EncodedBlock → StageOutput of DecodedBlock.

    The processes read and decode the images of refs, and decode the images of blocks. Each worker process has some, and
    all its threads share them. An image that ends a process or takes too long is a Failure. The process is replaced.

    >>> from pathlib import Path
    >>> cat = ImageRef(b"pipeline/samples/images/cat.jpg")
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     decoded = pipeline | beam.Create([cat]) | DecodeInProcesses((224, 224), processes=1)
    ...     _ = decoded.main | beam.Map(lambda block: print(block.pixels.shape))
    (1, 224, 224, 3)

    Attributes:
      size, resizing, max_pixels, quarantine, batch_size: see DecodeImages.
      processes: of each worker process; ONE_A_CORE for as many as the worker has cores.
      timeout: seconds that decoding one image may take.
      read_concurrency, storage: see ReadImages. The processes of a worker share the number of files in flight.

    Raises:
      ValueError: if an attribute is invalid.
    """

    size: tuple[int, int]
    resizing: Resizing | str = "stretch"
    max_pixels: int = MAX_PIXELS_DEFAULT
    quarantine: Mapping[bytes, int] = dataclasses.field(default_factory=dict)
    batch_size: int = BATCH_SIZE_DEFAULT
    processes: int = ONE_A_CORE
    timeout: float = TIMEOUT_DEFAULT
    read_concurrency: int = in_flight.CONCURRENCY_DEFAULT
    storage: Storage = DEFAULT_STORAGE

    def __post_init__(self) -> None:
        self.settings = DecodeSettings(self.size, as_resizing(self.resizing), self.max_pixels)
        in_flight.check_concurrency(self.read_concurrency)
        check_batch_size(self.batch_size)
        if self.processes < 1 and self.processes != ONE_A_CORE:
            raise ValueError(f"processes={self.processes!r}: expected a number from 1, or {ONE_A_CORE} for one a core")
        if self.timeout <= 0:
            raise ValueError(f"timeout={self.timeout!r}: expected a number of seconds above 0")

    def expand(self, images: beam.PCollection) -> StageOutput[DecodedBlock]:
        return StageOutput.of(images | "Decode" >> with_stage_outputs(_Decode(self), DecodedBlock))


class _Decode(beam.DoFn):
    def __init__(self, transform: DecodeInProcesses):
        self._transform = transform

    def setup(self) -> None:
        transform = self._transform
        processes = usable_cores() if transform.processes == ONE_A_CORE else transform.processes
        self._settings = Settings(
            processes,
            transform.settings,
            max(1, transform.read_concurrency // processes),
            transform.storage,
            transform.timeout,
        )
        self._blocks = Blocks(transform.size, transform.batch_size)
        self._user = pool.join(self._settings)
        self._forget()

    def start_bundle(self) -> None:
        self._forget()

    def teardown(self) -> None:
        pool.leave(self._settings, self._user)

    def _forget(self) -> None:
        self._blocks.forget()
        self._user.forget()
        self._images: list[ImageRef | EncodedImage] = []
        self._key_bytes = 0
        self._at: tuple[Any, Any] | None = None

    def process(
        self,
        element: ImageRef | EncodedBlock,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterable[Any]:
        try:
            yield from self._process(element, timestamp, window)
        except BaseException:  # also when Beam drops this generator, because a stage after it has failed
            self._forget()
            raise

    def _process(self, element: ImageRef | EncodedBlock, timestamp: Any, window: Any) -> Iterator[Any]:
        if self._at is None or window != self._at[1]:
            yield from self._rest()
            self._at = timestamp, window
        for image in element.images if isinstance(element, EncodedBlock) else (element,):
            ref = image if isinstance(image, ImageRef) else image.ref
            if deaths := self._transform.quarantine.get(journal.name(ref)):
                yield self._tagged(FAILURES, task.quarantined(ref.key, deaths))
                continue
            self._images.append(image)
            self._key_bytes += len(ref.key)
            if len(self._images) == self._settings.job_images or self._key_bytes >= JOB_KEY_BYTES:
                yield from self._submit()

    def finish_bundle(self) -> Iterator[Any]:
        try:
            yield from self._rest()
        except BaseException:
            self._forget()
            raise

    def _submit(self) -> Iterator[Any]:
        images, self._images, self._key_bytes = self._images, [], 0
        for decoded in self._user.submit(images):
            yield from self._outputs(decoded)

    def _rest(self) -> Iterator[Any]:
        if self._images:
            yield from self._submit()
        for decoded in self._user.rest():
            yield from self._outputs(decoded)
        if waited := self._user.take_waited():
            yield self._tagged(SECONDS, StageSeconds.of(WAIT, waited))
        yield from self._blocks.finish()

    def _outputs(self, decoded: Result) -> Iterator[Any]:
        done = decoded.done
        self._count(done)
        for stage, times, core_seconds in (
            (read_image.STAGE, done.read, 0.0),
            (STAGE, done.decode, done.core_seconds),
        ):
            seconds = [time for time in times if time is not None]
            if seconds:
                total, longest = sum(seconds), max(seconds)
                busy = StageSeconds.of(stage, total, items=len(seconds), longest=longest, core_seconds=core_seconds)
                yield self._tagged(SECONDS, busy)
        for index, result in enumerate(done.results):
            if isinstance(result, Failure):
                yield self._tagged(FAILURES, result)
            else:
                self._blocks.next_pixels[:] = decoded.pixels[index]
                yield from self._blocks.add(result, *self._place)

    def _count(self, done: Done) -> None:
        for time in done.decode:
            if time is not None:
                counters.observe(counters.DECODE_MICROSECONDS, time)
        not_read = sum(isinstance(result, Failure) and result.stage == read_image.STAGE for result in done.results)
        if read := sum(time is not None for time in done.read) - not_read:
            counters.inc(counters.IMAGES_READ, read)
            counters.inc(counters.BYTES_READ, done.bytes_read)
        if images := sum(not isinstance(result, Failure) for result in done.results):
            counters.inc(counters.IMAGES_DECODED, images)

    @property
    def _place(self) -> tuple[Any, Any]:
        """The timestamp and the window of the images under way."""
        assert self._at is not None  # noqa: S101 - there is an image under way
        return self._at

    def _tagged(self, tag: str, value: Any) -> beam.pvalue.TaggedOutput:
        timestamp, window = self._place
        return beam.pvalue.TaggedOutput(tag, WindowedValue(value, timestamp, (window,)))
